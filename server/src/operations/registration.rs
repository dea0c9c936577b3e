//! Requests about registration by phone number.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::{Map, Value, json};
use whimbrel_stats::Block;
use whimbrel_storage::directory::NumberState;

use crate::clock::unix_milliseconds;
use crate::control::{Answer, ControlRefusal, PAGE_MAX, Problem};
use crate::operations::Control;
use crate::operations::handlers::{WAIT_MAX, unreadable};
use crate::phone::metrics::RegistrationMetrics;
use crate::phone::number::Number;
use crate::phone::refusal;
use crate::phone::request::Request;
use crate::phone::rules::KNOWN_LANE;
use crate::registration::Registration;

impl Control {
    pub(super) fn registration_status(&self) -> Answer {
        let server = &self.server;
        let config = server.config();
        let Some(registration) = &server.registration else { return Ok(json!({ "on": false })) };
        let values = server.shared.stats.registration[0].values();
        let metrics: Map<String, Value> = RegistrationMetrics::DESCRIPTIONS
            .iter()
            .zip(values)
            .map(|(description, value)| (description.name.into(), value.into()))
            .collect();
        let (length, high_water, limit) = registration.gauge();
        Ok(json!({
            "on": true,
            "listen": server.http.as_ref().map_or_else(Vec::new, |http| http.listening.clone()),
            "tls": config.registration.tls,
            "in_band": config.registration.in_band,
            "gateway": registration.gateway,
            "queue": { "length": length, "high_water": high_water, "limit": limit },
            "metrics": metrics,
        }))
    }

    pub(super) fn registration_pending(&self, after: Option<&str>, max: usize) -> Answer {
        let max = max.min(PAGE_MAX);
        let after = after.map(|number| number.strip_prefix('+').unwrap_or(number));
        let found = self.server.shared.directory.number_states(after, max).map_err(unreadable)?;
        let now_ms = unix_milliseconds();
        let last = found.last().map(|(number, _)| number.clone());
        let more = max > 0 && found.len() == max;
        let rows: Vec<Value> =
            found.iter().filter_map(|(number, state)| pending_json(number, state, now_ms)).collect();
        Ok(json!({ "pending": rows, "more": more, "last": last }))
    }

    pub(super) fn registration_revoke(&self, number: &str) -> Answer {
        let number = number_of(number)?;
        let (reply, replies) = sync_channel(1);
        let done = self.submit(|reply| Request::Revoke(number.clone(), reply), reply, &replies, WAIT_MAX)?;
        if !done.pin && !done.account {
            let text = format!("{number} has neither a PIN under way nor an account");
            return Err(Problem::new(ControlRefusal::NotFound, text));
        }
        Ok(json!({ "pin": done.pin, "account": done.account, "kicked": done.sessions }))
    }

    pub(super) fn registration_test_sms(&self, number: &str) -> Answer {
        let number = number_of(number)?;
        let config = self.server.config();
        // All attempts, and the last one a little over.
        let wait = WAIT_MAX + Duration::from_secs(config.registration.gateway_seconds.into());
        let (reply, replies) = sync_channel(1);
        self.submit(|reply| Request::TestSms(number.clone(), reply), reply, &replies, wait)?;
        Ok(json!({ "sent": true }))
    }

    /// Submits a request to the service, and waits for its outcome.
    fn submit<T>(
        &self,
        request: impl FnOnce(SyncSender<Result<T, refusal::PhoneRefusal>>) -> Request,
        reply: SyncSender<Result<T, refusal::PhoneRefusal>>,
        replies: &std::sync::mpsc::Receiver<Result<T, refusal::PhoneRefusal>>,
        wait: Duration,
    ) -> Result<T, Problem> {
        if !self.registration()?.submit(request(reply)) {
            return Err(Problem::new(
                ControlRefusal::Busy,
                "too much waits for registration; try again later",
            ));
        }
        match replies.recv_timeout(wait) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(refusal::PhoneRefusal::Busy)) => Err(Problem::new(
                ControlRefusal::Busy,
                "the queue of text messages or that of the directory is full, or the server stops",
            )),
            Ok(Err(refusal)) => {
                let text = format!("{}; the server's log says more", refusal.text());
                Err(Problem::new(ControlRefusal::Failed, text))
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(Problem::new(ControlRefusal::Timeout, "registration does not answer in time"))
            }
        }
    }

    fn registration(&self) -> Result<&Registration, Problem> {
        self.server.registration.as_deref().ok_or_else(|| {
            let text = "registration by phone number is off; set registration.listen or registration.in_band";
            Problem::new(ControlRefusal::Failed, text)
        })
    }
}

fn number_of(text: &str) -> Result<Number, Problem> {
    Number::parse(text)
        .map_err(|error| Problem::new(ControlRefusal::BadRequest, format!("`{text}`: {error}")))
}

/// `None` for a number of which nothing is under way.
fn pending_json(number: &str, state: &NumberState, now_ms: u64) -> Option<Value> {
    let left = |at_ms: u64| at_ms.saturating_sub(now_ms).div_ceil(1000);
    let pin = state.pin.as_ref().filter(|pin| pin.expires_ms > now_ms);
    let locked = left(state.locked_until_ms);
    if pin.is_none() && locked == 0 {
        return None;
    }
    let digits = number.trim_end_matches(KNOWN_LANE);
    Some(json!({
        "number": format!("+{digits}"),
        "known_device": digits.len() < number.len(),
        "asked_seconds_ago": pin.map(|pin| now_ms.saturating_sub(pin.requested_ms) / 1000),
        "expires_in_seconds": pin.map(|pin| left(pin.expires_ms)),
        "tries_left": pin.map(|pin| pin.tries_left),
        "locked_seconds": locked,
        "strikes": state.strikes,
    }))
}
