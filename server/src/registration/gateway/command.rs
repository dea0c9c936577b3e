//! Sending by a program: the number as an argument, the text on its standard input.
//!
//! No shell is involved. The text is not an argument, because arguments are visible to every user of the machine.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | sent |
//! | 65 (`EX_DATAERR`), 77 (`EX_NOPERM`) | refused; not tried again |
//! | any other, a signal, or no end in time | tried again |

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::outbound::{Failure, Sender};

use super::Message;

/// What stands for the number in the arguments.
const PHONE: &str = "{phone}";

/// Exit codes that mean a refusal.
const REFUSED: [i32; 2] = [65, 77];

/// How often a program that runs is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A program with its arguments.
pub struct Command {
    words: Vec<String>,
}

impl Command {
    /// The absolute path of a program, and its arguments, in which `{phone}` stands for the number.
    pub fn new(words: Vec<String>) -> Command {
        Command { words }
    }
}

impl Sender<Message> for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn send(&self, message: &Message, within: Duration) -> Result<(), Failure> {
        let until = Instant::now() + within;
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::Unreachable(format!(
                "{}: {what}: {error}",
                self.words.first().map_or("", String::as_str)
            ))
        };
        let Some((program, arguments)) = self.words.split_first() else {
            return Err(Failure::Refused("registration.command is empty".into()));
        };
        let phone = message.number.to_string();
        let arguments = arguments.iter().map(|argument| argument.replace(PHONE, &phone));
        let mut child = std::process::Command::new(program)
            .args(arguments)
            .env("WHIMBREL_PHONE", &phone)
            .env("WHIMBREL_MESSAGE_ID", format!("{:016x}", message.id))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed("cannot be started", &error))?;
        // The text fits into the pipe, so this does not wait for the program to read it.
        if let Some(mut input) = child.stdin.take()
            && let Err(error) = input.write_all(message.text.as_bytes())
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            end(&mut child);
            return Err(failed("does not take the text", &error));
        }
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    let text = format!("{program} ended with {status}");
                    let refused = status.code().is_some_and(|code| REFUSED.contains(&code));
                    return Err(if refused { Failure::Refused(text) } else { Failure::Unreachable(text) });
                }
                Ok(None) if Instant::now() >= until => {
                    end(&mut child);
                    return Err(Failure::Unreachable(format!(
                        "{program} did not end in time and was killed"
                    )));
                }
                Ok(None) => std::thread::sleep(LOOK),
                Err(error) => return Err(failed("cannot be waited for", &error)),
            }
        }
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself in the meantime.
    let _ = child.kill();
    let _ = child.wait();
}
