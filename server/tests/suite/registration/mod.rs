//! Registration by phone number: over HTTPS, with a real HTTP server as the provider of text messages.

mod api;
mod devices;
mod gateway;
mod half;
mod in_band;
mod pins;

use crate::support::Client;
use crate::support::api::{LOCAL, Office};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

fn can_log_in(office: &Office, name: &str, key: &str) -> bool {
    let mut client = Client::connect(office.server.address());
    client.open_stream("localhost");
    client.authenticate_plain(name, key).is("success", SASL)
}

fn log_in(office: &Office, key: &str, resource: &str) -> Client {
    let mut client = Client::connect(office.server.address());
    client.log_in(LOCAL, key, resource);
    client
}
