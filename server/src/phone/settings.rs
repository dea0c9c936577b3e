//! The `[registration]` table of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::http::network::Network;

use super::prefix;

/// How text messages are sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayChoice {
    /// Not at all: nobody can register.
    None,
    /// By a program.
    Command,
    /// By an HTTPS request.
    Webhook,
    /// Into the server's log. For development.
    Log,
}

/// Registration by phone number. Off unless it has an address or is offered in-band.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrationConfig {
    /// Addresses of the HTTP API. Empty: there is none.
    pub listen: Vec<SocketAddr>,
    /// Whether the API speaks TLS, with the server's certificate.
    pub tls: bool,
    /// Proxies that are believed when they say whom they speak for: addresses, or networks like `10.0.0.0/8`.
    pub trusted_proxies: Vec<String>,
    /// Whether registration is offered on XMPP streams as well (XEP-0077).
    pub in_band: bool,
    /// How text messages are sent.
    pub gateway: GatewayChoice,
    /// The program and its arguments; `{phone}` stands for the number.
    pub command: Vec<String>,
    /// The address of the webhook.
    pub webhook_url: String,
    /// File with the secret that signs requests to the webhook.
    pub webhook_secret_file: PathBuf,
    /// PEM file of the authorities that the webhook's certificate is checked against. Empty: the public ones.
    pub webhook_ca_file: PathBuf,
    /// What is sent; `{pin}` and `{domain}` are replaced.
    pub message: String,
    /// Text messages that wait to be sent.
    pub gateway_queue: u32,
    /// Threads that send them.
    pub gateway_threads: u32,
    /// Seconds from the request to the message being sent, all attempts included.
    pub gateway_seconds: u32,
    /// Regions whose numbers may register, as ISO 3166 codes. Empty: all.
    pub allowed_regions: Vec<String>,
    /// Beginnings of numbers that may not register: a plus sign, the country code, and so much of the number as matters.
    pub denied_prefixes: Vec<String>,
    /// Seconds for which a PIN is good.
    pub pin_seconds: u32,
    /// Wrong guesses after which a PIN is void.
    pub pin_tries: u8,
    /// Seconds between two PINs for one number.
    pub resend_seconds: u32,
    /// Seconds for which a number is locked after the tries of a PIN are used up; doubled each time.
    pub backoff_seconds: u32,
    /// The longest such lock.
    pub backoff_seconds_max: u32,
    /// Days without wrong guesses after which the next lock is a short one again.
    pub backoff_forget_days: u32,
    /// PINs for one number in a day.
    pub pins_per_number_per_day: u32,
    /// Of them, those that one network (an IPv4 /24, an IPv6 /48) asks for, and those that one device does. A device that has
    /// registered the number before has this share to itself, beside the others'.
    pub pins_per_number_share: u32,
    /// Of the PINs for one number in a day, the last: they go to networks and devices that have had none of them.
    pub pins_per_number_reserve: u32,
    /// PINs that one address (IPv6: one /64) asks for in an hour.
    pub pins_per_address_per_hour: u32,
    /// PINs that one device asks for in an hour.
    pub pins_per_device_per_hour: u32,
    /// PINs of the whole server in an hour.
    pub pins_per_hour: u32,
    /// Wrong PINs from one address (IPv6: one /64) in an hour.
    pub wrong_pins_per_address_per_hour: u32,
    /// Wrong PINs of the whole server in a day.
    pub wrong_pins_per_day: u32,
    /// Connections to the HTTP API at a time. For one more, that goes which has waited longest for its client, of the
    /// address that has most.
    pub http_connections: u32,
    /// Of one address (IPv6: one /64); by a trusted proxy, requests at a time that it speaks for. For one more, the
    /// address's own longest waiting connection goes.
    pub http_connections_per_address: u32,
    /// Requests to the HTTP API from one address (IPv6: one /64) in a minute.
    pub http_requests_per_minute: u32,
    /// Bytes of the body of a request.
    pub http_body_bytes: u32,
    /// Seconds for TLS, for the head of a request, for its body, and for taking something of the answer, each.
    pub http_seconds: u32,
    /// Seconds for which a connection may wait between two requests.
    pub http_idle_seconds: u32,
}

impl Default for RegistrationConfig {
    fn default() -> Self {
        RegistrationConfig {
            listen: Vec::new(),
            tls: true,
            trusted_proxies: Vec::new(),
            in_band: false,
            gateway: GatewayChoice::None,
            command: Vec::new(),
            webhook_url: String::new(),
            webhook_secret_file: PathBuf::new(),
            webhook_ca_file: PathBuf::new(),
            message: "{pin} is your code for {domain}. Do not give it to anybody.".into(),
            gateway_queue: 256,
            gateway_threads: 4,
            gateway_seconds: 20,
            allowed_regions: Vec::new(),
            denied_prefixes: Vec::new(),
            pin_seconds: 600,
            pin_tries: 5,
            resend_seconds: 60,
            backoff_seconds: 900,
            backoff_seconds_max: 86_400,
            backoff_forget_days: 30,
            pins_per_number_per_day: 10,
            pins_per_number_share: 4,
            pins_per_number_reserve: 5,
            pins_per_address_per_hour: 20,
            pins_per_device_per_hour: 5,
            pins_per_hour: 2_000,
            wrong_pins_per_address_per_hour: 20,
            wrong_pins_per_day: 1_000,
            http_connections: 256,
            http_connections_per_address: 32,
            http_requests_per_minute: 60,
            http_body_bytes: 4_096,
            http_seconds: 10,
            http_idle_seconds: 30,
        }
    }
}

impl RegistrationConfig {
    /// Whether anything of it runs.
    pub fn is_on(&self) -> bool {
        !self.listen.is_empty() || self.in_band
    }

    /// The networks of [`trusted_proxies`](RegistrationConfig::trusted_proxies).
    pub fn proxies(&self) -> Vec<Network> {
        self.trusted_proxies.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Puts back what takes effect at a start only, and names what would have changed.
    pub fn keep_fixed(&mut self, old: &RegistrationConfig) -> Vec<&'static str> {
        let mut changed = Vec::new();
        macro_rules! fixed {
            ($($field:ident),*) => {
                $(if self.$field != old.$field {
                    changed.push(concat!("registration.", stringify!($field)));
                    self.$field = old.$field.clone();
                })*
            };
        }
        fixed!(
            listen,
            tls,
            in_band,
            gateway,
            command,
            webhook_url,
            webhook_secret_file,
            webhook_ca_file,
            gateway_queue,
            gateway_threads
        );
        changed
    }

    /// Checks what types cannot; the text says what is wrong and what to do.
    ///
    /// # Errors
    /// The text.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |key: &str, text: &str| Err(format!("registration.{key} {text}"));
        for proxy in &self.trusted_proxies {
            if proxy.parse::<Network>().is_err() {
                let text = format!("has `{proxy}`; write an address, or a network like 10.0.0.0/8");
                return wrong("trusted_proxies", &text);
            }
        }
        for prefix in &self.denied_prefixes {
            if let Err(why) = prefix::check(prefix) {
                return wrong("denied_prefixes", &format!("has `{prefix}`{why}"));
            }
        }
        for region in &self.allowed_regions {
            if region.parse::<phonenumber::country::Id>().is_err() || !prefix::is_region(region) {
                let text = format!("has `{region}`; write ISO 3166 codes like DE in capitals");
                return wrong("allowed_regions", &text);
            }
        }
        if !self.message.contains("{pin}") || self.message.len() > 480 {
            return wrong("message", "must contain {pin} and have at most 480 bytes");
        }
        let ranges: [(&str, u32, u32, u32); 20] = [
            ("pin_seconds", self.pin_seconds, 60, 3_600),
            ("pin_tries", self.pin_tries.into(), 1, 20),
            ("resend_seconds", self.resend_seconds, 0, 3_600),
            ("backoff_seconds", self.backoff_seconds, 1, 86_400),
            ("backoff_seconds_max", self.backoff_seconds_max, self.backoff_seconds, 31 * 86_400),
            ("backoff_forget_days", self.backoff_forget_days, 1, 366),
            ("pins_per_number_per_day", self.pins_per_number_per_day, 1, 10_000),
            ("pins_per_number_share", self.pins_per_number_share, 1, 10_000),
            ("pins_per_number_reserve", self.pins_per_number_reserve, 0, 10_000),
            ("pins_per_address_per_hour", self.pins_per_address_per_hour, 1, 1_000_000),
            ("pins_per_device_per_hour", self.pins_per_device_per_hour, 1, 1_000_000),
            ("pins_per_hour", self.pins_per_hour, 1, 1_000_000),
            ("wrong_pins_per_address_per_hour", self.wrong_pins_per_address_per_hour, 1, 1_000_000),
            ("wrong_pins_per_day", self.wrong_pins_per_day, 1, 1_000_000),
            ("gateway_queue", self.gateway_queue, 1, 100_000),
            ("gateway_threads", self.gateway_threads, 1, 64),
            ("gateway_seconds", self.gateway_seconds, 1, 60),
            ("http_seconds", self.http_seconds, 1, 60),
            ("http_idle_seconds", self.http_idle_seconds, 1, 300),
            ("http_body_bytes", self.http_body_bytes, 512, 65_536),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return wrong(key, &format!("is {value}; use {least} to {most}"));
            }
        }
        for (key, value) in [
            ("http_connections", self.http_connections),
            ("http_connections_per_address", self.http_connections_per_address),
            ("http_requests_per_minute", self.http_requests_per_minute),
        ] {
            if value == 0 {
                return wrong(key, "is 0; set it to at least 1");
            }
        }
        if !self.is_on() {
            return Ok(());
        }
        if !self.tls && self.listen.iter().any(|address| !address.ip().is_loopback()) {
            let text = "is false, but registration.listen has an address that is not loopback: keys would cross \
                        the network in the clear; let the proxy speak TLS and connect to 127.0.0.1";
            return wrong("tls", text);
        }
        self.check_gateway()
    }

    fn check_gateway(&self) -> Result<(), String> {
        let wrong = |text: &str| Err(format!("registration.{text}"));
        match self.gateway {
            GatewayChoice::None => wrong(
                "gateway is \"none\", but registration.listen or registration.in_band is set; choose \"command\" or \
                 \"webhook\", or for development \"log\"",
            ),
            GatewayChoice::Log => Ok(()),
            GatewayChoice::Command => match self.command.first() {
                Some(program) if program.starts_with('/') => Ok(()),
                _ => wrong("command must begin with the absolute path of a program"),
            },
            GatewayChoice::Webhook => {
                if self.webhook_secret_file.as_os_str().is_empty() {
                    return wrong("webhook_secret_file must name a file with the secret that signs requests");
                }
                let host = |rest: &str| {
                    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned();
                    // A name or address before an `@` is not the host.
                    (!authority.contains('@')).then_some(authority)
                };
                let https = self.webhook_url.strip_prefix("https://").and_then(host);
                let http = self.webhook_url.strip_prefix("http://").and_then(host);
                let local = |authority: &String| {
                    let name = authority.parse::<SocketAddr>().map(|address| address.ip().is_loopback());
                    name.unwrap_or(authority.split(':').next() == Some("localhost"))
                };
                match (https, http) {
                    (Some(authority), _) if !authority.is_empty() => Ok(()),
                    (_, Some(authority)) if local(&authority) => Ok(()),
                    _ => wrong(
                        "webhook_url must begin with https://, or with http:// and a loopback address with its port",
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named() {
        let on = || RegistrationConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            gateway: GatewayChoice::Log,
            ..RegistrationConfig::default()
        };
        assert_eq!(RegistrationConfig::default().check(), Ok(()));
        assert_eq!(on().check(), Ok(()));
        type Change = fn(&mut RegistrationConfig);
        let table: [(&str, Change); 14] = [
            ("gateway is \"none\"", |c| c.gateway = GatewayChoice::None),
            ("absolute path", |c| {
                c.gateway = GatewayChoice::Command;
                c.command = vec!["send-sms".into()];
            }),
            ("webhook_secret_file", |c| c.gateway = GatewayChoice::Webhook),
            ("https://", |c| {
                c.gateway = GatewayChoice::Webhook;
                c.webhook_secret_file = "x".into();
                c.webhook_url = "http://sms.example.org/".into();
            }),
            ("https://", |c| {
                c.gateway = GatewayChoice::Webhook;
                c.webhook_secret_file = "x".into();
                c.webhook_url = "http://127.0.0.1:80@sms.example.org/".into();
            }),
            ("trusted_proxies", |c| c.trusted_proxies = vec!["proxy".into()]),
            ("denied_prefixes", |c| c.denied_prefixes = vec!["+49x".into()]),
            ("write +49", |c| c.denied_prefixes = vec!["0049".into()]),
            ("allowed_regions", |c| c.allowed_regions = vec!["Germany".into()]),
            ("allowed_regions", |c| c.allowed_regions = vec!["de".into()]),
            ("message", |c| c.message = "your code".into()),
            ("pin_seconds", |c| c.pin_seconds = 5),
            ("in the clear", |c| {
                c.tls = false;
                c.listen = vec!["0.0.0.0:80".parse().unwrap()];
            }),
            ("http_connections", |c| c.http_connections = 0),
        ];
        for (expected, change) in table {
            let mut config = on();
            change(&mut config);
            let error = config.check().expect_err(expected);
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let mut webhook = on();
        webhook.gateway = GatewayChoice::Webhook;
        webhook.webhook_secret_file = "x".into();
        for url in [
            "https://sms.example.org/x",
            "http://127.0.0.1:8080/sms",
            "http://localhost:1/",
            "http://[::1]:9/",
        ] {
            webhook.webhook_url = url.into();
            assert_eq!(webhook.check(), Ok(()), "{url}");
        }
    }
}
