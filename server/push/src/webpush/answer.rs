//! What answers of push services mean: RFC 8030 §5 to §8, RFC 8292 §4.2.

use crate::verdict::{Verdict, Whose, quote, retry_after};

/// What an answer means. `now`: seconds since 1970.
pub(crate) fn verdict(status: u16, after: Option<&str>, body: &[u8], now: u64) -> Verdict {
    let reason = quote(&format!("{status} {}", quote(&String::from_utf8_lossy(body))));
    let after = after.and_then(|after| retry_after(after, now));
    match status {
        200..=299 => Verdict::Sent,
        404 | 410 => Verdict::Gone(reason),
        401 | 403 => Verdict::Credentials(reason),
        // Services limit single subscriptions as well as servers, and do not say which it is (RFC 8030 §8.4).
        429 => Verdict::Later { whose: Whose::Device, after, reason },
        500 => Verdict::Later { whose: Whose::Device, after, reason },
        408 | 501..=599 => Verdict::Later { whose: Whose::Provider, after, reason },
        _ => Verdict::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_rfcs_say() {
        let table = [
            (201, "sent"),
            (202, "sent"),
            (404, "gone"),
            (410, "gone"),
            (401, "credentials"),
            (403, "credentials"),
            (429, "device"),
            (500, "device"),
            (502, "provider"),
            (503, "provider"),
            (400, "refused"),
            (413, "refused"),
            (307, "refused"),
        ];
        for (status, expected) in table {
            let name = match verdict(status, None, b"", 0) {
                Verdict::Sent => "sent",
                Verdict::Gone(_) => "gone",
                Verdict::Refused(_) => "refused",
                Verdict::Credentials(_) => "credentials",
                Verdict::Later { whose: Whose::Device, .. } => "device",
                Verdict::Later { whose: Whose::Provider, .. } => "provider",
                other => panic!("{other:?}"),
            };
            assert_eq!(name, expected, "{status}");
        }
    }
}
