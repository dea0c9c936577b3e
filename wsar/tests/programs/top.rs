//! `wsar top` and `wsar replay` in a real terminal, by tmux.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Server, output, wsar};

/// A terminal of its own.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// `None` where there is no tmux.
    fn open(data: &Path, args: &[&str], (width, height): (u32, u32)) -> Option<Terminal> {
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("skipped: there is no tmux here");
            return None;
        }
        let terminal = Terminal { socket: data.join("tmux").display().to_string() };
        let program = wsar(data, args);
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let line = format!("{}; echo \"it ended: $?\"; sleep 60", words.join(" "));
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, &line]);
        Some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> String {
        let done = Command::new("tmux").args(["-S", &self.socket]).args(args).output().expect("tmux runs");
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "tmux {args:?}: {err}");
        String::from_utf8(done.stdout).expect("text")
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Waits until the screen is as wanted, and returns it.
    #[track_caller]
    fn wait(&self, what: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if what(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "the screen does not become what it should:\n{screen}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-S", &self.socket, "kill-server"]).output();
    }
}

#[test]
fn top_shows_workers_and_queues_at_any_size_and_restores_the_terminal() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let _client = Client::login(&server, "balcony");
    let Some(terminal) = Terminal::open(data.path(), &["top", "--every", "0.3"], (80, 24)) else { return };
    for (width, height) in [(80, 24), (200, 60), (40, 10), (80, 24)] {
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tmux(&["resize-window", "-x", &width, "-y", &height]);
        let texts: &[&str] = match height.as_str() {
            "10" => &["conns 1 ", "q quit"],
            "60" => &[
                "conns 1 ",
                "loop99",
                "mailbox",
                "interface",
                "rxpck/s",
                "await",
                "stanzas to clients",
                "q quit",
            ],
            _ => &["conns 1 ", "worker", "loop99", "mailbox", "directory", "%user", "avail", "q quit"],
        };
        terminal.wait(|screen| texts.iter().all(|text| screen.contains(text)));
    }
    terminal.press("h");
    terminal.wait(|screen| screen.contains("order of queues"));
    terminal.press("h");
    terminal.press("s");
    terminal.wait(|screen| screen.contains("longest first"));
    terminal.press("Space");
    terminal.wait(|screen| screen.contains("PAUSED"));
    terminal.press("q");
    let screen = terminal.wait(|screen| screen.contains("it ended: 0"));
    assert!(!screen.contains("mailbox"), "the screen of before is not back:\n{screen}");
}

#[test]
fn top_restores_the_terminal_when_it_is_told_to_end() {
    let data = tempfile::tempdir().unwrap();
    let Some(terminal) = Terminal::open(data.path(), &["top"], (80, 24)) else { return };
    terminal.wait(|screen| screen.contains("no server"));
    let shell = terminal.tmux(&["list-panes", "-F", "#{pane_pid}"]);
    let ended = Command::new("pkill").args(["-TERM", "-P", shell.trim(), "wsar"]).status();
    assert!(ended.expect("pkill runs").success());
    let screen = terminal.wait(|screen| screen.contains("it ended: 0"));
    assert!(!screen.contains("no server"), "{screen}");
}

#[test]
fn replay_shows_a_recording_and_moves_in_it() {
    let data = tempfile::tempdir().unwrap();
    output(data.path(), &["record", "--every", "0.1", "--count", "40"]);
    let args = ["replay", "--from", "-1h", "--every", "0.1"];
    let Some(terminal) = Terminal::open(data.path(), &args, (80, 24)) else { return };
    terminal.wait(|screen| screen.contains("end of the recording") && screen.contains("PAUSED"));
    let clock = |screen: &str| screen.split_ascii_whitespace().nth(2).map(str::to_owned);
    let last = clock(&terminal.screen());
    terminal.press("Home");
    let screen = terminal.wait(|screen| !screen.contains("end of the recording"));
    assert!(clock(&screen) < last, "{last:?}:\n{screen}");
    assert!(screen.contains("%user"), "{screen}");
    terminal.press("End");
    terminal.wait(|screen| clock(screen) == last);
    terminal.press("q");
    terminal.wait(|screen| screen.contains("it ended: 0"));
}
