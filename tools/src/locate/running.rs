//! The processes of `whimbreld` on this machine, from what the system tells every user.

use std::path::{Path, PathBuf};

use super::DEFAULT;

/// The server's program, as the system names its processes.
const PROGRAM: &str = "whimbreld";

/// A process of the server.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) id: u32,
    /// Its command line, the program first.
    pub(super) arguments: Vec<String>,
    /// Where it was started; `None` when this user may not know.
    pub(super) folder: Option<PathBuf>,
}

impl Process {
    /// Its data directory, as `whimbreld` decides it: the command line over the file over the default. `None` when this
    /// user cannot tell.
    pub(super) fn data(&self) -> Option<PathBuf> {
        let given = match option(&self.arguments, "--data") {
            Some(data) => PathBuf::from(data),
            None => match option(&self.arguments, "--config") {
                Some(file) => configured(&self.whole(Path::new(file))?)?,
                None => DEFAULT.into(),
            },
        };
        self.whole(&given)
    }

    /// A path of the process as it is for others.
    fn whole(&self, path: &Path) -> Option<PathBuf> {
        if path.is_absolute() {
            return Some(path.to_owned());
        }
        Some(self.folder.as_ref()?.join(path).components().collect())
    }
}

/// The value of an option in a command line.
pub(super) fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == name {
            return rest.next().map(String::as_str);
        }
        if let Some(value) = argument.strip_prefix(name).and_then(|value| value.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

/// The data directory that a configuration file names; `None` when it cannot be read.
pub(super) fn configured(file: &Path) -> Option<PathBuf> {
    let table: toml::Table = toml::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    match table.get("data") {
        Some(data) => data.as_str().map(PathBuf::from),
        None => Some(DEFAULT.into()),
    }
}

/// All processes of the server that can be seen.
#[cfg(target_os = "linux")]
pub(super) fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<Process> = numbers.filter_map(process).collect();
    found.sort_by_key(|process| process.id);
    found
}

#[cfg(target_os = "linux")]
fn process(id: u32) -> Option<Process> {
    let place = PathBuf::from(format!("/proc/{id}"));
    if std::fs::read_to_string(place.join("comm")).ok()?.trim_end() != PROGRAM {
        return None;
    }
    let line = std::fs::read(place.join("cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line);
    let arguments: Vec<String> = line.split_terminator('\0').map(str::to_owned).collect();
    // One that has ended and was not yet waited for has none.
    (!arguments.is_empty()).then(|| Process { id, arguments, folder: place.join("cwd").read_link().ok() })
}

/// All processes of the server that can be seen.
#[cfg(not(target_os = "linux"))]
pub(super) fn processes() -> Vec<Process> {
    let Some(list) =
        crate::doctor::system::output("ps", &["-axww", "-o", "pid=", "-o", "comm=", "-o", "args="])
    else {
        return Vec::new();
    };
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let id: u32 = words.next()?.parse().ok()?;
        if words.next()? != PROGRAM {
            return None;
        }
        Some(Process { id, arguments: words.map(str::to_owned).collect(), folder: folder(id) })
    };
    list.lines().filter_map(line).collect()
}

/// Where a process was started, as procstat(1) of FreeBSD tells: `PID: FOLDER`.
#[cfg(not(target_os = "linux"))]
fn folder(id: u32) -> Option<PathBuf> {
    let text = crate::doctor::system::output("procstat", &["pwdx", &id.to_string()])?;
    text.lines().find_map(|line| Some(PathBuf::from(line.split_once(": ")?.1.trim())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn data(arguments: &[&str], folder: Option<&Path>) -> Option<PathBuf> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Process { id: 1, arguments, folder: folder.map(Path::to_owned) }.data()
    }

    #[test]
    fn a_data_directory_is_told_from_the_command_line_the_file_and_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = Some(place.path());
        std::fs::write(place.path().join("w.toml"), "data = 'from-file'\n").unwrap();
        std::fs::write(place.path().join("none.toml"), "domain = 'x.example'\n").unwrap();
        let table: [(&[&str], Option<&Path>, Option<PathBuf>); 8] = [
            (&["whimbreld"], folder, Some(place.path().join("whimbrel-data"))),
            (&["whimbreld", "--data", "/srv/x"], None, Some("/srv/x".into())),
            (&["whimbreld", "--data=x", "--config", "w.toml"], folder, Some(place.path().join("x"))),
            (&["whimbreld", "--config", "w.toml"], folder, Some(place.path().join("from-file"))),
            (&["whimbreld", "--config=none.toml"], folder, Some(place.path().join("whimbrel-data"))),
            (&["whimbreld", "--config", "missing.toml"], folder, None),
            (&["whimbreld", "--data", "x"], None, None),
            (&["whimbreld"], None, None),
        ];
        for (arguments, folder, expected) in table {
            assert_eq!(data(arguments, folder), expected, "{arguments:?}");
        }
    }
}
