//! Guards: ids are printed and parsed in one form, and names are the ones that the tables use.

use daybook_schema::{
    BetType, Coins, CommandId, DayNumber, Period, Pot, Role, SeasonId, SeasonPhase, SimulinPath,
    SimulinStage, Trigger, UnixMicros, UserId, Weather,
};

#[test]
fn enumerations_have_the_names_of_the_tables() {
    fn names<T: Copy + ToString>(all: &[T]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }
    assert_eq!(names(Role::ALL), ["player", "admin", "moderator"]);
    assert_eq!(names(SeasonPhase::ALL), ["planting", "growth", "harvest"]);
    assert_eq!(names(Weather::ALL), ["sunny", "cloudy", "rainy", "stormy"]);
    assert_eq!(names(Pot::ALL), ["water", "sun", "pest", "growth"]);
    assert_eq!(names(BetType::ALL), ["fold", "call", "raise", "all-in"]);
    assert_eq!(
        names(Trigger::ALL),
        ["first_bloom", "perfect_read", "trouble_slayer", "growth_spurt", "simulin_sync"]
    );
    let stages = ["sproutling", "cultivar", "bloomform", "legendary"];
    assert_eq!(names(SimulinStage::ALL), stages);
    assert_eq!(names(SimulinPath::ALL), ["tender", "watcher", "lucky"]);
    assert_eq!(names(Period::ALL), ["weekly", "seasonal", "all_time"]);
    let unknown = "allin".parse::<BetType>().unwrap_err().to_string();
    assert_eq!(unknown, "unknown bet type `allin`, expected one of fold, call, raise, all-in");
}

#[test]
fn ids_are_parsed_in_the_form_that_they_are_printed_in() {
    let user = UserId::random();
    let text = user.to_string();
    assert_eq!(text.parse(), Ok(user));
    assert_eq!(serde_json::from_str::<UserId>(&format!("\"{text}\"")).unwrap(), user);
    assert!(text.parse::<SeasonId>().is_err(), "another kind's prefix");
    assert!(text.to_uppercase().parse::<UserId>().is_err());
    assert!(text.replace('-', "").parse::<UserId>().is_err());
    let refused = "usr_1".parse::<UserId>().unwrap_err().to_string();
    assert_eq!(
        refused,
        "a user id must be `usr_` and a UUID in lower case with hyphens, got `usr_1`"
    );
}

#[test]
fn a_command_id_is_a_uuid_of_version_7_that_tells_its_time() {
    let at = UnixMicros::new(1_767_571_200_123_456);
    let id = CommandId::from_parts(at, [0xff; 10]);
    assert_eq!(id.time(), UnixMicros::new(1_767_571_200_123_000));
    assert_eq!(id.to_string().parse(), Ok(id));
    let version_4 = "0193a0b0-1c2d-4e3f-8a4b-5c6d7e8f9a0b";
    assert!(version_4.parse::<CommandId>().is_err());
    assert!("0193A0B0-1C2D-7E3F-8A4B-5C6D7E8F9A0B".parse::<CommandId>().is_err());
}

#[test]
fn bounded_numbers_refuse_what_lies_outside() {
    assert!(DayNumber::new(0).is_err());
    assert_eq!(DayNumber::new(29).unwrap_err().to_string(), "day number must be 1 to 28, got `29`");
    assert!("12x".parse::<Coins>().is_err());
    assert!(serde_json::from_str::<DayNumber>("29").is_err());
    let weeks: Vec<u8> = DayNumber::all().map(|day| day.week().get()).collect();
    assert_eq!((weeks[0], weeks[6], weeks[7], weeks[27]), (1, 1, 2, 4));
    let phases: Vec<SeasonPhase> = DayNumber::all().map(DayNumber::phase).collect();
    assert_eq!(phases.iter().filter(|p| **p == SeasonPhase::Planting).count(), 7);
    assert_eq!(phases.iter().filter(|p| **p == SeasonPhase::Harvest).count(), 7);
}
