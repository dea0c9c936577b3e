//! Ways to run whimbreld, as `peers` compares them.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// One way to run whimbreld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// `auto`, `mio` or `uring`.
    pub(crate) driver: String,
    /// 0: one a core.
    pub(crate) workers: u32,
    /// `process` or `disk`; `None`: the default.
    pub(crate) durability: Option<&'static str>,
    /// Clients come by direct TLS.
    pub(crate) tls: bool,
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Variant, String> {
        let mut words = text.split(':');
        let driver = words.next().unwrap_or_default();
        if !["auto", "mio", "uring"].contains(&driver) {
            return Err(format!("`{driver}` is no driver: auto, mio or uring"));
        }
        let mut variant = Variant { driver: driver.into(), workers: 0, durability: None, tls: false };
        for word in words {
            match word {
                "disk" => variant.durability = Some("disk"),
                "process" => variant.durability = Some("process"),
                "tls" => variant.tls = true,
                number => {
                    let wrong =
                        |_| format!("`{number}` is no number of workers, no durability and not `tls`");
                    variant.workers = number.parse().map_err(wrong)?;
                }
            }
        }
        Ok(variant)
    }
}

impl Display for Variant {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Variant { driver, workers, durability, tls } = self;
        match workers {
            0 => write!(f, "Whimbrel {driver}")?,
            n => write!(f, "Whimbrel {driver}, {n} worker{}", if *n == 1 { "" } else { "s" })?,
        }
        if let Some(durability) = durability {
            write!(f, ", {durability}")?;
        }
        if *tls { write!(f, ", TLS") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_named_as_it_is_asked_for() {
        for (text, name) in [
            ("auto", "Whimbrel auto"),
            ("mio:1", "Whimbrel mio, 1 worker"),
            ("uring:2:process", "Whimbrel uring, 2 workers, process"),
            ("mio:disk:tls", "Whimbrel mio, disk, TLS"),
        ] {
            assert_eq!(text.parse::<Variant>().map(|variant| variant.to_string()), Ok(name.to_owned()));
        }
        for wrong in ["", "epoll", "mio:many", "mio:1:ssl"] {
            assert!(wrong.parse::<Variant>().is_err(), "{wrong}");
        }
    }
}
