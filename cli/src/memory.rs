//! How much memory this process has held at most, and how much there is.

/// Peak resident memory in bytes; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Peak resident memory in bytes; `None` where the system does not tell.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn peak_rss_bytes() -> Option<u64> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    u64::try_from(usage.max_rss()).ok().map(|peak| peak * unit)
}

/// Peak resident memory in bytes; `None` where the system does not tell.
#[cfg(not(unix))]
pub fn peak_rss_bytes() -> Option<u64> {
    None
}

/// The memory of this machine in bytes; `None` where the system does not tell.
pub fn installed_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes = |key: &str| -> Option<u64> {
        let line = info.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some((kibibytes("MemTotal:")? + kibibytes("SwapTotal:").unwrap_or(0)) * 1024)
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn the_peak_covers_what_was_held() {
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(super::peak_rss_bytes().unwrap() > held.len() as u64);
    }
}
