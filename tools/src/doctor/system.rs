//! Reading sysctls and asking other programs.

use std::process::{Command, Stdio};

/// The value of a sysctl, its words separated by one blank; `None` when there is none.
pub(super) fn sysctl(name: &str) -> Option<String> {
    let text = if cfg!(target_os = "linux") {
        std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?
    } else {
        output("sysctl", &["-n", name])?
    };
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What a program prints; `None` when it is not there or fails.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let done = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|done| done.status.success())?;
    String::from_utf8(done.stdout).ok()
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (6 << 30, "6.0 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
