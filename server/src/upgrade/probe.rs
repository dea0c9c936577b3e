//! Asking the new program, in a child process with a time limit: what it can, and whether it can read a state.
//!
//! Nothing has been stopped when it is asked first. A child that crashes, hangs or refuses is the end of the upgrade
//! and of nothing else.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::runtime::platform;
use crate::saved::counts::Counts;
use crate::saved::kind::Readable;
use crate::takeover::launch::{Launch, PROBE_OPTION, REHEARSE_OPTION};

/// How often a child is looked at.
const LOOK: Duration = Duration::from_micros(500);

/// Bytes of a child's words that are read at most.
const WORDS_MAX: u64 = 16 * 1024;

/// What a program says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Its version.
    pub whimbreld: String,
    /// The oldest and the newest version of the state's frame that it reads.
    pub states: [u32; 2],
    /// The same of each kind of block. A program from before there were such has none.
    #[serde(default)]
    pub kinds: Readable,
    /// The domain it would serve.
    pub domain: String,
    /// Its data directory, absolute.
    pub data: PathBuf,
    /// Workers it would have; 0 means one per core.
    pub workers: u32,
}

/// Asks programs.
pub struct Asker<'a> {
    /// How this process came to be.
    pub launch: &'a Launch,
    /// The program to ask.
    pub path: &'a Path,
    /// How long it may take to answer.
    pub patience: Duration,
}

impl Asker<'_> {
    /// What the program can, with the command line of this one: it reads its configuration anew.
    ///
    /// # Errors
    /// Why it cannot take over, as a sentence with its path.
    pub fn probe(&self) -> Result<Probed, String> {
        let path = self.path.display();
        let words = self.run(PROBE_OPTION)?;
        let line = words.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .map_err(|_| format!("{path} does not answer as whimbreld does; is it the right program?"))
    }

    /// Whether the program can read a state; what it finds in there.
    ///
    /// # Errors
    /// It cannot, as a sentence with its path.
    pub fn rehearse(&self, state: &File) -> Result<Counts, String> {
        let path = self.path.display();
        let inherited = platform::inheritable(state)
            .map_err(|error| format!("cannot hand the state to {path}: {error}"))?;
        let option = format!("{REHEARSE_OPTION}={}", inherited.as_raw_fd());
        let words = self.run(&option)?;
        drop(inherited);
        let line = words.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .map_err(|_| format!("{path} does not say what it has read; is it the right program?"))
    }

    /// Runs the program with one more option and returns what it prints.
    fn run(&self, option: &str) -> Result<String, String> {
        let path = self.path.display();
        let mut command = Command::new(self.path);
        command.args(self.launch.arguments.iter().skip(1)).arg(option);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.cannot_run(&error))?;
        let Some(status) = wait(&mut child, self.patience) else {
            let seconds = self.patience.as_secs();
            return Err(match option.starts_with(REHEARSE_OPTION) {
                true => format!("{path} hangs while it restores: it was not done after {seconds} seconds"),
                false => format!("{path} does not answer: nothing came within {seconds} seconds"),
            });
        };
        let said = read(child.stdout.take());
        if status.success() {
            return Ok(said);
        }
        let complaint = read(child.stderr.take());
        let complaint = complaint.trim_end().lines().last().unwrap_or_default();
        let complaint = complaint.strip_prefix("whimbreld: ").unwrap_or(complaint);
        let how = how_it_ended(status);
        let doing = if option.starts_with(REHEARSE_OPTION) { "restoring" } else { "being asked" };
        Err(match (status.code(), complaint.is_empty()) {
            (Some(_), false) => format!("{path} refuses: {complaint}"),
            (_, true) => format!("{path} {how} on {doing}"),
            (None, false) => format!("{path} {how} on {doing}: {complaint}"),
        })
    }

    fn cannot_run(&self, error: &std::io::Error) -> String {
        let path = self.path.display();
        let remedy = match error.raw_os_error() {
            Some(libc::ENOENT) => "; check the path, and that its interpreter is there",
            Some(libc::EACCES) => "; it must be executable for the server's user",
            Some(libc::ENOEXEC) => "; it is no program for this machine: built for another architecture?",
            _ => "",
        };
        format!("cannot run {path}: {error}{remedy}")
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("crashed with signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Waits for a child's end; kills it when it takes too long.
fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            // It may have ended in this moment; both are as good.
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

fn read(source: Option<impl Read>) -> String {
    let mut words = Vec::new();
    if let Some(source) = source {
        // What cannot be read was not said.
        let _ = source.take(WORDS_MAX).read_to_end(&mut words);
    }
    String::from_utf8_lossy(&words).into_owned()
}
