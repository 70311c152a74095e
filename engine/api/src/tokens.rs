//! Random tokens, of which only hashes are stored, and the cookies that carry them.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daybook_schema::UserId;
use zeroize::Zeroizing;

use crate::error::{ApiError, Code};

/// Contexts of BLAKE3's derive-key mode, one for each use.
const TOKEN_CONTEXT: &str = "daybook v1 api token";
const ADDRESS_CONTEXT: &str = "daybook v1 api failed login";
const DEVICE_CONTEXT: &str = "daybook v1 api device";

const SESSION_COOKIE: &str = "session";
const DEVICE_COOKIE: &str = "device";
const DEVICE_AGE: Duration = Duration::from_secs(365 * 86_400);

/// 32 random bytes, as a client carries them.
pub(crate) struct Token(Zeroizing<String>);

/// A token's hash, in hex: what is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TokenHash(String);

/// A key of the service's own.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, ApiError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| {
        tracing::error!(%error, "the system gives no random bytes");
        ApiError::new(Code::Unavailable)
    })?;
    Ok(bytes)
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Token {
    pub(crate) fn random() -> Result<Self, ApiError> {
        Ok(Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>()?.as_slice()))))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0).unwrap_or_else(|| TokenHash(String::new()))
    }
}

impl TokenHash {
    /// The hash of a token that a client sent; none of what cannot be one.
    pub(crate) fn of(token: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(token).ok().filter(|b| b.len() == 32)?);
        Some(Self(hex(&blake3::derive_key(TOKEN_CONTEXT, &bytes))))
    }

    /// As it is stored.
    pub(crate) const fn from_stored(stored: String) -> Self {
        Self(stored)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is kept of people by keyed hashes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept<'a> {
    /// An address, whether there is an account or not.
    Email(&'a str),
    /// A device from which this user logged in before.
    Device(UserId, &'a str),
    /// The address of a client.
    Client(&'a [u8; 16]),
    /// Registrations from the address of a client.
    Registrations(&'a [u8; 16]),
    /// A user whose devices these are.
    Owner(UserId),
}

impl Secret {
    pub(crate) fn random() -> Result<Self, ApiError> {
        Ok(Self(random::<32>()?))
    }

    pub(crate) fn from_stored(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key that tells nobody the address, and that nobody without this secret can make.
    pub(crate) fn key_of(&self, counted: Kept<'_>) -> [u8; 32] {
        let mut hasher = self.hasher(ADDRESS_CONTEXT);
        match counted {
            Kept::Email(email) => hasher.update(b"e").update(email.as_bytes()),
            Kept::Device(user_id, device) => {
                hasher.update(b"d").update(user_id.as_bytes()).update(device.as_bytes())
            }
            Kept::Client(client) => hasher.update(b"c").update(client),
            Kept::Registrations(client) => hasher.update(b"r").update(client),
            Kept::Owner(user_id) => hasher.update(b"o").update(user_id.as_bytes()),
        };
        *hasher.finalize().as_bytes()
    }

    fn hasher(&self, context: &str) -> blake3::Hasher {
        let key = Zeroizing::new(blake3::derive_key(context, self.0.as_slice()));
        blake3::Hasher::new_keyed(&key)
    }

    fn device_mark(&self, user_id: UserId, device: &str) -> [u8; 32] {
        let mut hasher = self.hasher(DEVICE_CONTEXT);
        *hasher.update(user_id.as_bytes()).update(device.as_bytes()).finalize().as_bytes()
    }

    /// What a device carries from which a user logged in: an id of its own, and our mark.
    pub(crate) fn new_device(&self, user_id: UserId) -> Result<String, ApiError> {
        let device = URL_SAFE_NO_PAD.encode(random::<16>()?.as_slice());
        let mark = URL_SAFE_NO_PAD.encode(self.device_mark(user_id, &device));
        Ok(format!("{device}.{mark}"))
    }

    /// The id of a device from which this user logged in before.
    pub(crate) fn known_device<'a>(&self, user_id: UserId, carried: &'a str) -> Option<&'a str> {
        let (device, mark) = carried.split_once('.')?;
        let mark: [u8; 32] = URL_SAFE_NO_PAD.decode(mark).ok()?.try_into().ok()?;
        // Compared in constant time.
        let expected = blake3::Hash::from_bytes(self.device_mark(user_id, device));
        (expected == blake3::Hash::from_bytes(mark)).then_some(device)
    }
}

/// The values that cookies of one name have, in all headers; two where there are more. Other cookies
/// may hold any bytes.
fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().flat_map(|value| {
        value.as_bytes().split(|byte| *byte == b';').map(|pair| pair.trim_ascii())
    });
    let named = all.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    named.map(|value| std::str::from_utf8(value).unwrap_or_default()).take(2).collect()
}

/// What a request says of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Nothing.
    None,
    /// What no session has: it is malformed, or there are several.
    Unusable,
    /// A token's hash.
    Token(TokenHash),
}

pub(crate) fn session_of(headers: &HeaderMap) -> Carried {
    match cookies(headers, SESSION_COOKIE).as_slice() {
        [] => Carried::None,
        [token] => TokenHash::of(token).map_or(Carried::Unusable, Carried::Token),
        _ => Carried::Unusable,
    }
}

/// What another backend says of itself.
pub(crate) fn bearer_of(headers: &HeaderMap) -> Carried {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let token = match (values.next(), values.next()) {
        (None, _) => return Carried::None,
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let (scheme, token) = match token.map(|value| value.split_once(' ').unwrap_or((value, ""))) {
        // A proxy in front may have its own way to ask who somebody is.
        Some((scheme, _)) if !scheme.eq_ignore_ascii_case("bearer") => return Carried::None,
        other => other.unzip(),
    };
    let hash = scheme.and(token).and_then(|token| TokenHash::of(token.trim()));
    hash.map_or(Carried::Unusable, Carried::Token)
}

pub(crate) fn device_of(headers: &HeaderMap) -> Option<&str> {
    match cookies(headers, DEVICE_COOKIE).as_slice() {
        [device] => Some(device),
        _ => None,
    }
}

fn cookie(name: &'static str, value: &str, path: &'static str, age: Duration) -> HeaderValue {
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    // HttpOnly, Secure and SameSite as the seed has them. Browsers and curl send it to
    // http://localhost too.
    let cookie = cookie::Cookie::build((name, value))
        .http_only(true)
        .secure(true)
        .same_site(cookie::SameSite::Strict)
        .max_age(cookie::time::Duration::seconds(seconds))
        .path(path);
    HeaderValue::from_str(&cookie.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// The cookie of a session.
pub(crate) fn session_cookie(token: &Token, age: Duration) -> HeaderValue {
    cookie(SESSION_COOKIE, token.as_str(), "/", age)
}

/// What takes the session's cookie away.
pub(crate) fn no_session_cookie() -> HeaderValue {
    cookie(SESSION_COOKIE, "", "/", Duration::ZERO)
}

/// The cookie of a device.
pub(crate) fn device_cookie(device: &str) -> HeaderValue {
    cookie(DEVICE_COOKIE, device, "/api/auth", DEVICE_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: stored hashes stay what they are, or everybody is logged out.
    #[test]
    fn a_tokens_hash_is_the_same_for_ever() {
        let token = URL_SAFE_NO_PAD.encode([7; 32]);
        assert_eq!(
            TokenHash::of(&token).unwrap().as_str(),
            "03004ebd704f08f51d2998651099d8ed70d29e381b82dc1f0ac8a60aae3cdf34"
        );
        assert_eq!(TokenHash::of("short"), None);
        let secret = Secret::from_stored(&[9; 32]).unwrap();
        assert_eq!(
            hex(&secret.key_of(Kept::Email("a@b.example"))),
            "fc410907fef836381afab0f12915345290baed8e59c3e74ff1b4f4ec2e86ceb8"
        );
    }

    #[test]
    fn a_device_is_known_to_its_user_alone() {
        let secret = Secret::from_stored(&[9; 32]).unwrap();
        let (user, other) = (UserId::random(), UserId::random());
        let device = secret.new_device(user).unwrap();
        assert!(secret.known_device(user, &device).is_some());
        assert!(secret.known_device(other, &device).is_none());
        assert!(secret.known_device(user, "a.b").is_none());
    }

    #[test]
    fn two_session_cookies_are_none() {
        let of = |cookies: &[&str]| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(header::COOKIE, cookie.parse().unwrap());
            }
            session_of(&headers)
        };
        let token = URL_SAFE_NO_PAD.encode([7; 32]);
        let one = format!("other=1; session={token}");
        assert!(matches!(of(&[&one]), Carried::Token(_)));
        assert_eq!(of(&[&one, &one]), Carried::Unusable);
        assert_eq!(of(&[&format!("session={token}; session=x")]), Carried::Unusable);
        assert_eq!(of(&["a=b"]), Carried::None);
    }
}
