//! Dates from Unix time, in UTC.

/// Year, month, day, hour, minute, second. (Days to dates: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.)
fn civil(seconds: u64) -> (u64, u64, u64, u64, u64, u64) {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// `20260216080729`.
pub fn compact(seconds: u64) -> String {
    let (year, month, day, hour, minute, second) = civil(seconds);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

/// `2026-02-16T08:07:29`.
pub fn iso(seconds: u64) -> String {
    let (year, month, day, hour, minute, second) = civil(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Seconds since 1970, with their fraction.
pub fn precisely() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // From `date -u -d @N +%Y%m%d%H%M%S`.
        assert_eq!(compact(0), "19700101000000");
        assert_eq!(compact(951_826_154), "20000229120914");
        assert_eq!(iso(1_771_196_849), "2026-02-15T23:07:29");
        assert_eq!(iso(4_107_542_399), "2100-02-28T23:59:59");
        assert_eq!(iso(4_107_542_400), "2100-03-01T00:00:00");
    }
}
