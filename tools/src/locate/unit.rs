//! Where the service has its data: of the unit of systemd, or of rc.conf on FreeBSD.

use std::path::{Path, PathBuf};

use super::running::{configured, option};
use crate::doctor::system::output;

/// The unit of the server.
const UNIT: &str = "whimbreld.service";

/// Where units lie that systemd is not there to tell of, the first one wins.
const FOLDERS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// The data directory of the service, and what names it.
pub(super) fn data() -> Option<(PathBuf, String)> {
    if cfg!(target_os = "freebsd") {
        return of_rc();
    }
    // With what was changed by `systemctl edit`, where systemd runs.
    let text = output("systemctl", &["cat", UNIT]).or_else(|| {
        let files = FOLDERS.iter().map(|folder| Path::new(folder).join(UNIT));
        files.into_iter().find_map(|file| std::fs::read_to_string(file).ok())
    })?;
    Some((of_unit(&text)?, format!("the unit {UNIT}")))
}

/// What rc.conf says, or the rc.d script by default.
fn of_rc() -> Option<(PathBuf, String)> {
    let script = "/usr/local/etc/rc.d/whimbreld";
    if !Path::new(script).exists() {
        return None;
    }
    let set = output("sysrc", &["-n", "whimbreld_data"]).map(|text| text.trim().to_owned());
    let data = set.filter(|text| !text.is_empty()).unwrap_or_else(|| "/var/db/whimbrel".to_owned());
    Some((data.into(), script.to_owned()))
}

/// The data directory that the last `ExecStart=` of a unit names.
fn of_unit(text: &str) -> Option<PathBuf> {
    let setting = |name: &str| {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
        lines.map(str::trim).rfind(|value| !value.is_empty()).map(str::to_owned)
    };
    let arguments: Vec<String> = setting("ExecStart")?.split_whitespace().map(str::to_owned).collect();
    let given = match option(&arguments, "--data") {
        Some(data) => PathBuf::from(data),
        None => configured(Path::new(option(&arguments, "--config")?))?,
    };
    let whole = match setting("WorkingDirectory") {
        Some(folder) => Path::new(&folder).join(given),
        None => given,
    };
    // What systemd fills in (`%S`) is not known here.
    let known = whole.is_absolute() && !whole.to_string_lossy().contains('%');
    known.then(|| whole.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_start_line_of_a_unit_tells_the_data_directory() {
        let table = [
            (
                "ExecStart=/usr/bin/whimbreld --config /etc/w.toml --data /var/lib/whimbrel",
                Some("/var/lib/whimbrel"),
            ),
            (
                "ExecStart=/usr/bin/whimbreld --data /a\n# drop-in\nExecStart=\nExecStart=w --data=/b",
                Some("/b"),
            ),
            ("WorkingDirectory=/var/lib/whimbrel\nExecStart=w --data data", Some("/var/lib/whimbrel/data")),
            ("ExecStart=w --data %S/whimbrel", None),
            ("ExecStart=w --data data", None),
            ("ExecStart=w", None),
            ("ExecStartPre=w --data /a", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(of_unit(text), expected.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn our_own_unit_tells_it() {
        let text = include_str!("../../service/whimbreld.service");
        assert_eq!(of_unit(text), Some("/var/lib/whimbrel".into()));
    }
}
