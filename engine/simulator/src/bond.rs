//! A simulin's bond: experience and levels.

use daybook_schema::{BondLevel, BondXp, SimulinPath, limits};

/// The experience at which each level, from 1, is left: floor(100 × L^1.5).
const XP_TO_LEAVE: [u32; limits::BOND_LEVEL_MAX as usize - 1] = [
    100, 282, 519, 800, 1118, 1469, 1852, 2262, 2700, 3162, 3648, 4156, 4687, 5238, 5809, 6400,
    7009, 7636, 8281, 8944, 9623, 10318, 11030, 11757,
];

/// The experience at which a level is left, or `None` for the top level.
#[must_use]
pub fn xp_to_leave(level: BondLevel) -> Option<BondXp> {
    XP_TO_LEAVE.get(usize::from(level.get()) - 1).map(|&xp| BondXp::clamped(xp))
}

/// The level of so much experience.
#[must_use]
pub fn level_for(xp: BondXp) -> BondLevel {
    let left = XP_TO_LEAVE.iter().take_while(|&&needed| xp.get() >= needed).count();
    BondLevel::clamped(u8::try_from(left + 1).unwrap_or(u8::MAX))
}

/// Experience with the path's share: half as much again on the lucky path, rounded down.
pub(crate) const fn with_path(xp: u32, path: Option<SimulinPath>) -> u32 {
    match path {
        Some(SimulinPath::Lucky) => xp + xp / 2,
        _ => xp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: the table is floor(100 × L^1.5), derived here by whole-number square roots.
    #[test]
    fn table_is_the_floor_of_100_times_level_to_the_power_of_one_and_a_half() {
        for (index, &xp) in XP_TO_LEAVE.iter().enumerate() {
            let level = index as u128 + 1;
            assert_eq!(u128::from(xp), (10_000 * level.pow(3)).isqrt(), "level {level}");
        }
        assert_eq!(level_for(BondXp::clamped(99)).get(), 1);
        assert_eq!(level_for(BondXp::clamped(100)).get(), 2);
        assert_eq!(level_for(BondXp::MAX), BondLevel::MAX);
        assert_eq!(xp_to_leave(BondLevel::MAX), None);
    }
}
