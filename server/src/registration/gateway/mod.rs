//! Text messages, and the ways to send them. Queue, retries and dead letters are those of [`crate::outbound`].
//!
//! | module | what |
//! | --- | --- |
//! | [`command`] | a program |
//! | [`webhook`] | an HTTPS request |

pub mod command;
pub mod webhook;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::outbound::jitter::Jitter;
use crate::outbound::{Failure, Lost, Outgoing, Sender, Settings};

use crate::phone::number::Number;
use crate::phone::settings::{GatewayChoice, RegistrationConfig};

/// Name of the file of messages that were not sent, in the data directory.
pub(crate) const DEAD_LETTERS: &str = "sms-dead-letters.jsonl";

/// The pause after the first failed attempt.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// A text message.
pub struct Message {
    /// Names it: the same in each attempt.
    pub id: u64,
    /// The recipient.
    pub number: Number,
    /// The text. Holds the PIN: wiped when dropped, never logged.
    pub text: Zeroizing<String>,
}

/// A way to send text messages.
pub type Gateway = Arc<dyn Sender<Message>>;

impl Outgoing for Message {
    fn id(&self) -> u64 {
        self.id
    }

    fn dead_letter(&self, lost: &Lost<'_>) -> Map<String, Value> {
        let Lost { sender: gateway, kind, reason } = *lost;
        tracing::warn!(gateway, number = self.number.masked(), kind, reason, "a text message was not sent");
        let fields = [("number", self.number.to_string()), ("gateway", gateway.to_owned())];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }
}

/// Queue and threads for text messages.
pub fn settings(config: &RegistrationConfig, data: &Path) -> Settings {
    Settings {
        name: "sms",
        queue: config.gateway_queue as usize,
        threads: config.gateway_threads,
        pause_first: PAUSE_FIRST,
        jitter: Jitter::system(),
        dead_letters: data.join(DEAD_LETTERS),
    }
}

/// Makes the gateway that the configuration asks for.
///
/// # Errors
/// A file cannot be used; the text says which and why.
pub fn from_config(config: &RegistrationConfig, domain: &str) -> Result<Gateway, String> {
    Ok(match config.gateway {
        GatewayChoice::Command => Arc::new(command::Command::new(config.command.clone())),
        GatewayChoice::Webhook => Arc::new(webhook::Webhook::from_config(config, domain)?),
        // Checked before: a configuration without a gateway has no registration.
        GatewayChoice::Log | GatewayChoice::None => {
            tracing::warn!(
                "registration.gateway is \"log\": PINs are written into this log instead of being sent. For \
                 development only"
            );
            Arc::new(Log)
        }
    })
}

/// The gateway of development: the log.
struct Log;

impl Sender<Message> for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn send(&self, message: &Message, _: Duration) -> Result<(), Failure> {
        tracing::warn!("instead of a text message to {}: {}", message.number, &*message.text);
        Ok(())
    }
}
