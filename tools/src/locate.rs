//! Which data directory is meant: the one of `--data`, else of `WHIMBREL_DATA`, else that of the server which runs on this
//! machine, else that of its unit, else `./whimbrel-data`.
//!
//! | module | what it finds |
//! | --- | --- |
//! | [`running`] | the processes of `whimbreld`, and where each has its data |
//! | [`unit`] | the data directory of the service |

mod running;
mod unit;

use std::path::{Path, PathBuf};

use crate::problem::Problem;
use running::Process;

/// What `whimbreld` uses when nothing else is configured, in the folder where it is started.
const DEFAULT: &str = "./whimbrel-data";

/// The variable that names the data directory.
const VARIABLE: &str = "WHIMBREL_DATA";

/// Name of the control socket in the data directory of a server that runs.
const SOCKET: &str = "control.sock";

/// A data directory, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// The directory; it need not be there.
    pub(crate) path: PathBuf,
    /// What led to it.
    pub(crate) by: By,
}

/// What led to a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// `--data`.
    Option,
    /// `WHIMBREL_DATA`.
    Variable,
    /// A server that runs: its process.
    Running(u32),
    /// The service, which does not run: where it is described.
    Unit(String),
    /// Nothing: it is what a server without configuration uses in this folder.
    Default,
}

impl Located {
    /// One line for people who did not name it themselves.
    pub(crate) fn told(&self) -> Option<String> {
        let why = match &self.by {
            By::Option => return None,
            By::Variable => format!("from {VARIABLE}"),
            By::Running(process) => format!("where process {process} serves"),
            By::Unit(unit) => format!("from {unit}"),
            By::Default => "the default: no server runs, and there is no unit".to_owned(),
        };
        let whole = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        // `./` in the midst of it says nothing.
        let whole: PathBuf = whole.components().collect();
        Some(format!("data directory {}, {why}", whole.display()))
    }
}

/// Finds the data directory.
///
/// # Errors
/// Several servers run, and none of them in this folder.
pub(crate) fn locate(option: Option<&Path>) -> Result<Located, Problem> {
    if let Some(path) = option {
        return Ok(Located { path: path.to_owned(), by: By::Option });
    }
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(Located { path: path.into(), by: By::Variable });
    }
    if let Some(found) = of_processes(&running::processes(), Path::new(DEFAULT))? {
        return Ok(found);
    }
    if let Some((path, unit)) = unit::data() {
        return Ok(Located { path, by: By::Unit(unit) });
    }
    Ok(Located { path: DEFAULT.into(), by: By::Default })
}

/// The data directory of the one server among the processes; of several, the one that serves `here`.
fn of_processes(processes: &[Process], here: &Path) -> Result<Option<Located>, Problem> {
    let mut found: Vec<(PathBuf, u32)> = Vec::new();
    for process in processes {
        let Some(data) = process.data() else { continue };
        // Children that are asked before an upgrade have the command line of the server.
        if serves(&data) && !found.iter().any(|(known, _)| same(known, &data)) {
            found.push((data, process.id));
        }
    }
    let of_here = found.iter().position(|(data, _)| same(data, here));
    if let Some(at) = of_here.or((found.len() == 1).then_some(0)) {
        let (path, process) = found.swap_remove(at);
        return Ok(Some(Located { path, by: By::Running(process) }));
    }
    if found.is_empty() {
        return Ok(None);
    }
    let list: Vec<String> =
        found.iter().map(|(data, process)| format!("{} (process {process})", data.display())).collect();
    let text = format!(
        "several servers run here; name the data directory of one with --data or {VARIABLE}: {}",
        list.join(", ")
    );
    Err(Problem::of_kind("ambiguous", text))
}

/// Whether a server seems to run there, as far as can be seen: what this user must not look into may well be right, while a
/// path without a socket belongs to another root or another time.
fn serves(data: &Path) -> bool {
    match std::fs::symlink_metadata(data.join(SOCKET)) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

fn same(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn process(id: u32, arguments: &[&str], folder: &Path) -> Process {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Process { id, arguments, folder: Some(folder.to_owned()) }
    }

    /// A folder in which some data directories seem to be served.
    fn place(served: &[&str]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for data in served {
            std::fs::create_dir(place.path().join(data)).unwrap();
            std::fs::write(place.path().join(data).join(SOCKET), "").unwrap();
        }
        place
    }

    #[test]
    fn the_one_server_that_runs_is_found_and_one_that_is_gone_is_not() {
        let place = place(&["a"]);
        let here = place.path().join("whimbrel-data");
        let list = [
            process(7, &["whimbreld", "--data", "gone"], place.path()),
            process(8, &["whimbreld", "--data=a"], place.path()),
            process(9, &["whimbreld", "--data", "a", "--upgrade-rehearse=5"], place.path()),
        ];
        let found = of_processes(&list, &here).unwrap().unwrap();
        assert_eq!(found, Located { path: place.path().join("a"), by: By::Running(8) });
        assert!(found.told().unwrap().ends_with("where process 8 serves"));
        assert_eq!(of_processes(&list[..1], &here).unwrap(), None);
    }

    #[test]
    fn of_several_servers_that_of_this_folder_is_taken_else_all_are_named() {
        let place = place(&["a", "whimbrel-data"]);
        let list = [
            process(7, &["whimbreld", "--data", "a"], place.path()),
            process(8, &["/usr/bin/whimbreld"], place.path()),
        ];
        let found = of_processes(&list, &place.path().join("whimbrel-data")).unwrap().unwrap();
        assert_eq!(found.by, By::Running(8));
        let problem = of_processes(&list, Path::new("/nowhere/whimbrel-data")).unwrap_err().to_string();
        for text in ["/a (process 7)", "whimbrel-data (process 8)", "--data"] {
            assert!(problem.contains(text), "{text}: {problem}");
        }
    }
}
