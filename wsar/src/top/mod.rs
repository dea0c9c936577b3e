//! The dashboard in a terminal: `wsar top` for now, `wsar replay` for recorded time.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`state`] | what is known and chosen: figures, their history, pause, order |
//! | [`incident`](self) | the accounts and addresses that cause most |
//! | [`draw`] | the state on a screen of any size |
//! | [`keyboard`](self) | waiting for keys, and noticing that the terminal is gone |
//! | [`replay`] | samples of a recording, one after another, with seeking |

pub mod draw;
mod incident;
#[expect(unsafe_code, reason = "system calls")]
mod keyboard;
pub mod replay;
pub mod state;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::busiest;
use crate::collect::{Collector, State as ServerState};
use crate::delta::Delta;
use crate::sample::Sample;
use keyboard::Waited;
use replay::Replay;
use state::State;

/// The longest time without a look at signals.
const NAP: Duration = Duration::from_millis(200);

/// Where samples come from.
pub enum Samples {
    /// The machine, now.
    Live(Box<Collector>),
    /// A recording.
    Recorded(Box<Replay>),
}

/// Shows the dashboard until it is left. The terminal is restored on every way out, a panic included.
///
/// # Errors
/// There is no terminal, or a recording cannot be read.
pub fn run(samples: Samples, interval: Duration, data: &Path, stop: &Arc<AtomicBool>) -> io::Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(io::Error::other(
            "this needs a terminal; `wsar` without a command prints lines anywhere",
        ));
    }
    let mut terminal = ratatui::try_init()?;
    let result = Dashboard::new(samples, interval, data).run(&mut terminal, stop);
    if keyboard::wait(Duration::ZERO)? == Waited::Gone {
        // There is nothing to restore and nobody to tell; dropping the terminal would try both.
        std::mem::forget(terminal);
        return Ok(());
    }
    ratatui::try_restore()?;
    result
}

struct Dashboard {
    samples: Samples,
    interval: Duration,
    speed: u32,
    old: Option<Sample>,
    busiest: busiest::Reader,
    state: State,
}

impl Dashboard {
    fn new(samples: Samples, interval: Duration, data: &Path) -> Dashboard {
        let mut state = State::default();
        state.replaying = matches!(samples, Samples::Recorded(_));
        Dashboard { samples, interval, speed: 1, old: None, busiest: busiest::Reader::new(data), state }
    }

    fn run(&mut self, terminal: &mut DefaultTerminal, stop: &Arc<AtomicBool>) -> io::Result<()> {
        self.step()?;
        let mut next = Instant::now() + self.interval / 5;
        while !stop.load(Ordering::Relaxed) {
            terminal.draw(|frame| draw::draw(frame, &self.state))?;
            let left = next.saturating_duration_since(Instant::now());
            if keyboard::wait(left.min(NAP))? == Waited::Gone {
                return Ok(());
            }
            while event::poll(Duration::ZERO)? {
                // Anything else, such as a new size, is answered by drawing anew.
                let left = match event::read()? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => !self.key(key)?,
                    _ => false,
                };
                if left {
                    return Ok(());
                }
            }
            if Instant::now() >= next {
                next = Instant::now() + self.interval / self.speed;
                if !(self.state.replaying && self.state.paused) {
                    self.step()?;
                }
            }
        }
        Ok(())
    }

    /// Takes the next sample. While paused, live samples go on being taken, so that rates stay those of an interval.
    fn step(&mut self) -> io::Result<()> {
        let new = match &mut self.samples {
            Samples::Live(collector) => {
                let sample = collector.sample();
                self.state.server = match *collector.server() {
                    ServerState::Absent => "no server".to_owned(),
                    ServerState::Running { pid, .. } => format!("whimbreld {pid}"),
                    ServerState::Ended { pid } => format!("whimbreld {pid} has ended"),
                };
                self.state.problems = collector.problems().iter().map(ToString::to_string).collect();
                match self.busiest.look() {
                    Ok(told) => self.state.busiest = told.cloned(),
                    Err(error) => self.state.problems.push(error.to_string()),
                }
                sample
            }
            Samples::Recorded(replay) => {
                self.state.server = "recorded".to_owned();
                match replay.next()? {
                    Some(sample) => sample,
                    None => {
                        self.state.paused = true;
                        self.state.server = "end of the recording".to_owned();
                        return Ok(());
                    }
                }
            }
        };
        if let Some(old) = &self.old
            && let Some(delta) = Delta::between(old, &new)
            && (self.state.replaying || !self.state.paused)
        {
            self.state.take(&delta);
        }
        self.old = Some(new);
        Ok(())
    }

    /// Moves in a recording.
    fn seek(&mut self, by_ms: i64) -> io::Result<()> {
        let Samples::Recorded(replay) = &mut self.samples else { return Ok(()) };
        let now = self.old.as_ref().map_or(0, |sample| sample.time_ms);
        replay.seek(now.saturating_add_signed(by_ms))?;
        self.old = None;
        self.state.forget();
        // Two samples make the first figures.
        self.step()?;
        self.step()
    }

    /// `false`: leave.
    fn key(&mut self, key: KeyEvent) -> io::Result<bool> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Ok(false),
            KeyCode::Esc if self.state.incident => self.state.incident = false,
            KeyCode::Char('b') => self.state.incident = !self.state.incident,
            KeyCode::Esc if self.state.help => self.state.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return Ok(false),
            KeyCode::Char(' ' | 'p') => self.state.paused = !self.state.paused,
            KeyCode::Char('s') => self.state.next_order(),
            KeyCode::Char('h' | '?') => self.state.help = !self.state.help,
            KeyCode::Char('+') => self.speed = (self.speed * 2).min(64),
            KeyCode::Char('-') => self.speed = (self.speed / 2).max(1),
            KeyCode::Right if self.state.replaying => self.step()?,
            KeyCode::Left => self.seek(-3_000)?,
            KeyCode::PageUp => self.seek(-60_000)?,
            KeyCode::PageDown => self.seek(60_000)?,
            KeyCode::Home => self.seek(i64::MIN)?,
            KeyCode::End => self.seek(i64::MAX)?,
            _ => {}
        }
        Ok(true)
    }
}
