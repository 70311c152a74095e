//! The shapes that many types of the vocabulary share, each written once.

/// The stored form of a type: that of another one, which it is made into and, where it can be, from.
macro_rules! stored_as {
    ($name:ident, $inner:ty, $into:expr, $from:expr) => {
        impl bincode::Encode for $name {
            fn encode<E: bincode::enc::Encoder>(
                &self,
                encoder: &mut E,
            ) -> Result<(), bincode::error::EncodeError> {
                let stored: $inner = ($into)(self);
                stored.encode(encoder)
            }
        }

        impl<Context> bincode::Decode<Context> for $name {
            fn decode<D: bincode::de::Decoder<Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                let stored = <$inner as bincode::Decode<Context>>::decode(decoder)?;
                ($from)(stored).map_err(|problem| {
                    bincode::error::DecodeError::OtherString(problem.to_string())
                })
            }
        }

        bincode::impl_borrow_decode!($name);
    };
}

/// An enumeration with a stable number for stored bytes and a stable name for people and JSON.
macro_rules! named_enum {
    (@json $self:ident $serializer:ident) => { $serializer.serialize_str($self.as_str()) };
    (@json $self:ident $serializer:ident number) => { $serializer.serialize_u8($self.number()) };
    (@from_json $deserializer:ident) => {
        <std::borrow::Cow<'de, str>>::deserialize($deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    };
    (@from_json $deserializer:ident number) => {
        Self::from_stored(u8::deserialize($deserializer)?).map_err(serde::de::Error::custom)
    };
    (
        $(#[$meta:meta])*
        pub enum $name:ident $(as $form:ident)? {
            $($(#[$variant_meta:meta])* $variant:ident = $number:literal => $text:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $number,)+
        }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable number that stands for it in stored bytes; never reused.
            #[must_use]
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The stable name that stands for it in JSON, in `game.db` and on the screen.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The value with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::enumerations::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    $crate::enumerations::UnknownName {
                        what: stringify!($name),
                        given: text.to_owned(),
                        known: &[$($text,)+],
                    }
                })
            }
        }

        impl $name {
            fn from_stored(number: u8) -> Result<Self, String> {
                Self::from_number(number).ok_or_else(|| {
                    format!("unknown number `{number}` of {}", stringify!($name))
                })
            }
        }

        stored_as!($name, u8, |value: &Self| value.number(), Self::from_stored);

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                named_enum!(@json self serializer $($form)?)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                named_enum!(@from_json deserializer $($form)?)
            }
        }
    };
}

/// A whole number with bounds: a value that was built lies within them.
macro_rules! bounded_number {
    ($(#[$meta:meta])* pub struct $name:ident($inner:ty) in $min:expr, $max:expr;) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The smallest value there is.
            pub const MIN: Self = Self($min);
            /// The largest value there is.
            pub const MAX: Self = Self($max);

            /// Builds a value.
            ///
            /// # Errors
            /// [`OutOfRange`](crate::quantities::OutOfRange) outside `MIN..=MAX`.
            pub const fn new(value: $inner) -> Result<Self, $crate::quantities::OutOfRange> {
                if (value as i128) < ($min as i128) || (value as i128) > ($max as i128) {
                    return Err($crate::quantities::OutOfRange {
                        what: stringify!($name),
                        value: value as i128,
                        min: $min as i128,
                        max: $max as i128,
                    });
                }
                Ok(Self(value))
            }

            /// The nearest value to `value` within the bounds.
            #[must_use]
            pub const fn clamped(value: $inner) -> Self {
                if (value as i128) < ($min as i128) {
                    Self::MIN
                } else if (value as i128) > ($max as i128) {
                    Self::MAX
                } else {
                    Self(value)
                }
            }

            /// The number itself.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::quantities::ParseQuantityError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let value: $inner = text.parse().map_err(|source| {
                    $crate::quantities::ParseQuantityError::NotANumber {
                        what: stringify!($name),
                        given: text.to_owned(),
                        source,
                    }
                })?;
                Self::new(value).map_err(Into::into)
            }
        }

        stored_as!($name, $inner, |value: &Self| value.0, Self::new);

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let value = <$inner>::deserialize(deserializer)?;
                Self::new(value).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A fixed number of bytes, shown and parsed as lower-case hex.
macro_rules! fixed_bytes {
    ($(#[$meta:meta])* pub struct $name:ident([u8; $length:literal]);) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// Wraps the bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The bytes themselves.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::quantities::write_hex(f, &self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::quantities::ParseHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $length];
                $crate::quantities::parse_hex(stringify!($name), text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        stored_as!($name, [u8; $length], |value: &Self| value.0, |bytes| {
            Ok::<_, std::convert::Infallible>(Self(bytes))
        });

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// An id of one kind: 16 bytes of a UUID, printed with the kind's prefix.
macro_rules! prefixed_id {
    ($(#[$meta:meta])* pub struct $name:ident = $prefix:literal;) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// What the printed form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// The id with these 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes, as they are stored.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}{}", $prefix, self.0.hyphenated())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::ids::ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::ids::parse_prefixed(stringify!($name), $prefix, text).map(Self)
            }
        }

        stored_as!($name, [u8; 16], |value: &Self| *value.as_bytes(), |bytes| {
            Ok::<_, std::convert::Infallible>(Self::from_bytes(bytes))
        });

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
