//! Sorting much, beside others who want the core.

/// Entries that are sorted between two breaks.
const ENTRIES_PER_BREAK: usize = 1_024;

/// Sorts entries by keys that differ. `take_break` is called again and again, after few entries each.
pub fn sort_with_breaks<T, K: Ord>(
    entries: &mut [T],
    key: impl Fn(&T) -> K + Copy,
    take_break: &mut dyn FnMut(),
) {
    if entries.len() <= ENTRIES_PER_BREAK {
        entries.sort_unstable_by_key(key);
        return take_break();
    }
    // Once the half with the lower keys stands first, each half is sorted for itself.
    let middle = entries.len() / 2;
    let (low, _, high) = entries.select_nth_unstable_by_key(middle, key);
    take_break();
    sort_with_breaks(low, key, take_break);
    sort_with_breaks(high, key, take_break);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: whoever waits for the core gets it often, and the order is the sorted one.
    #[test]
    fn much_is_sorted_with_many_breaks() {
        for count in [0_u64, 1, 1_024, 1_025, 100_003] {
            let mut entries: Vec<u64> = (0..count).map(|n| n * 7_919 % count.max(1)).collect();
            let mut breaks = 0;
            sort_with_breaks(&mut entries, |entry| *entry, &mut || breaks += 1);
            assert_eq!(entries, (0..count).collect::<Vec<u64>>());
            assert!(breaks >= count.div_ceil(1_024), "{breaks} for {count}");
        }
    }
}
