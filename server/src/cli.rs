//! The command line of `whimbreld`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use clap_complete::Shell;
use whimbrel_server::config::{Config, ConfigError, DriverChoice};

/// Whimbrel, a single-node XMPP server.
///
/// Without a configuration file everything runs on embedded defaults: the domain localhost, loopback addresses,
/// and a self-signed certificate that is made at the first start and kept in the data directory. An option given
/// here wins over the configuration file, and the file over the defaults.
///
/// SIGTERM and SIGINT end all streams and stop; a second one stops at once. SIGHUP reads the certificate and the
/// configuration file again. The environment variable WHIMBREL_LOG sets what is logged to standard error, for
/// example `WHIMBREL_LOG=debug`.
#[derive(Clone, Debug, Parser)]
#[command(name = "whimbreld", version, after_help = "Exit codes: 0 success, 1 failure, 2 usage.")]
pub(crate) struct Cli {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory [default: ./whimbrel-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The domain to serve [default: localhost]
    #[arg(long, value_name = "NAME")]
    pub(crate) domain: Option<String>,
    /// Address for STARTTLS connections; may be given several times [default: 127.0.0.1:5222]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Address for direct TLS connections; may be given several times [default: 127.0.0.1:5223]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen_tls: Vec<SocketAddr>,
    /// Address for HTTPS, which carries WebSocket; may be given several times; `none` for none [default: 127.0.0.1:5443]
    #[arg(long, value_name = "ADDR:PORT|none")]
    pub(crate) listen_http: Vec<ListenHttp>,
    /// Number of workers; 0 means one per core [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u32>,
    /// Event-loop driver [default: auto]
    #[arg(long, value_enum)]
    pub(crate) driver: Option<Driver>,
    /// Permit logins without TLS, for benchmarks on loopback addresses
    #[arg(long)]
    pub(crate) allow_plaintext: bool,
    /// Check configuration, certificate and data directory, print what was found, and do not start
    #[arg(long)]
    pub(crate) check: bool,
    /// Say what this program can take over, as JSON: the running server asks before an upgrade
    #[arg(long, hide = true)]
    pub(crate) upgrade_probe: bool,
    /// Read a state from a descriptor and say what is in it: the running server asks before an upgrade
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) upgrade_rehearse: Option<u32>,
    /// Take over from the program before, whose state is in a descriptor
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) upgrade_restore: Option<u32>,
    /// Print shell completions
    #[arg(long, value_name = "SHELL", hide = true, exclusive = true)]
    pub(crate) completions: Option<Shell>,
    /// Write the man pages into a directory
    #[arg(long, value_name = "DIR", hide = true, exclusive = true)]
    pub(crate) man: Option<PathBuf>,
}

/// An address, or none.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenHttp(Option<SocketAddr>);

impl FromStr for ListenHttp {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenHttp, String> {
        match text {
            "none" => Ok(ListenHttp(None)),
            text => {
                let address = text.parse::<SocketAddr>();
                let address = address.map_err(|error| format!("{error}; or `none` for no address"))?;
                Ok(ListenHttp(Some(address)))
            }
        }
    }
}

/// The drivers by the names of the command line.
#[derive(Copy, Clone, Debug, ValueEnum)]
pub(crate) enum Driver {
    /// io_uring where the kernel has what is needed, else mio
    Auto,
    /// epoll on Linux, kqueue on FreeBSD
    Mio,
    /// io_uring
    Uring,
}

impl From<Driver> for DriverChoice {
    fn from(driver: Driver) -> DriverChoice {
        match driver {
            Driver::Auto => DriverChoice::Auto,
            Driver::Mio => DriverChoice::Mio,
            Driver::Uring => DriverChoice::Uring,
        }
    }
}

impl Cli {
    /// The configuration: defaults, the file over them, the command line over both; checked.
    ///
    /// # Errors
    /// The file cannot be read or a value cannot be used.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        if let Some(domain) = &self.domain {
            config.domain.clone_from(domain);
        }
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        if !self.listen_tls.is_empty() {
            config.listen_tls.clone_from(&self.listen_tls);
        }
        if !self.listen_http.is_empty() {
            config.http.listen = self.listen_http.iter().filter_map(|listen| listen.0).collect();
        }
        if let Some(workers) = self.workers {
            config.workers = workers;
        }
        if let Some(driver) = self.driver {
            config.driver = driver.into();
        }
        config.allow_plaintext |= self.allow_plaintext;
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn config(args: &[&str]) -> Config {
        let args = std::iter::once("whimbreld").chain(args.iter().copied());
        Cli::try_parse_from(args).expect("the arguments are right").config().expect("the values are right")
    }

    #[test]
    fn the_description_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_arguments_everything_is_the_default() {
        assert_eq!(config(&[]), Config::default());
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "domain = 'file.example'\nworkers = 3\ndriver = 'mio'\n").unwrap();
        let path = file.path().to_str().unwrap();
        let read =
            config(&["--config", path, "--workers", "5", "--listen", "[::1]:1", "--listen", "127.0.0.1:2"]);
        assert_eq!((read.domain.as_str(), read.workers), ("file.example", 5));
        assert_eq!(read.driver, DriverChoice::Mio);
        assert_eq!(read.listen, ["[::1]:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]);
        assert_eq!(read.listen_tls, Config::default().listen_tls);
    }

    #[test]
    fn http_may_have_addresses_or_none() {
        assert_eq!(config(&["--listen-http", "none"]).http.listen, []);
        let two = config(&["--listen-http", "127.0.0.1:1", "--listen-http", "[::1]:2"]).http.listen;
        assert_eq!(two, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    }

    #[test]
    fn a_bad_address_and_an_unknown_driver_are_usage_errors() {
        for args in
            [["--listen", "nonsense"], ["--listen-http", "no"], ["--driver", "kqueue"], ["--workers", "-1"]]
        {
            let error = Cli::try_parse_from(["whimbreld"].into_iter().chain(args)).expect_err(args[1]);
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
