//! External services (XEP-0215): the STUN and TURN servers that clients use for calls, with credentials that are good for
//! some time. There are none until the configuration names them.

use crate::clock::datetime;
use crate::config::ExternalService;
use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::service::{Answers, Reply, Request, Scopes, Service};
use crate::shared::turn::{Credential, ExternalServices};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

/// Tells of the services, and gives credentials for them.
pub static SERVICE: Service = Service {
    name: "external services",
    enabled: |config| config.turn.is_on(),
    answers: &[
        Answers {
            element: "services",
            namespace: ns::EXTERNAL,
            scopes: Scopes::SERVER,
            writes: Area::Alone,
            handle: tell,
        },
        Answers {
            element: "credentials",
            namespace: ns::EXTERNAL,
            scopes: Scopes::SERVER,
            writes: Area::Alone,
            handle: give,
        },
    ],
    features: &[(ns::EXTERNAL, Scopes::SERVER)],
    ..Service::NOTHING
};

/// §3.1, §3.2: all services, or those of one type, with their credentials.
fn tell(_: &mut Actors, env: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::NotAllowed.into();
    }
    let external = env.shared.external();
    let credential = credential(&external, env, request);
    let kind = request.query.attribute("type");
    let wanted = external.list().iter().filter(|service| kind.is_none_or(|kind| kind == service.kind));
    let found = wanted.map(|service| {
        let element = describe(service);
        match credential.as_ref().filter(|_| service.is_restricted()) {
            Some(credential) => with(element, credential).attr("restricted", "true"),
            None => element,
        }
    });
    let services = Element::new("services", ns::EXTERNAL).attr_opt("type", kind);
    Reply::Result(services.children(found))
}

/// §3.3: a credential for one service.
fn give(_: &mut Actors, env: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::NotAllowed.into();
    }
    let asked = match Asked::read(&request.query) {
        Ok(asked) => asked,
        Err(error) => return Reply::Error(error),
    };
    let external = env.shared.external();
    let mut fitting = external.list().iter().filter(|service| asked.fits(service)).peekable();
    if fitting.peek().is_none() {
        return StanzaCondition::ItemNotFound.into();
    }
    let Some(credential) = credential(&external, env, request) else {
        return StanzaCondition::ItemNotFound.into();
    };
    let given = fitting.filter(|service| service.is_restricted());
    let given: Vec<_> = given.map(|service| with(describe(service), &credential)).collect();
    match given.is_empty() {
        true => StanzaCondition::ItemNotFound.into(),
        false => Reply::Result(Element::new("credentials", ns::EXTERNAL).children(given)),
    }
}

fn credential(external: &ExternalServices, env: &Env, request: &Request) -> Option<Credential> {
    let secret = env.shared.directory.server_secret();
    external.credential(&request.from_local, &secret, env.unix_seconds())
}

fn describe(service: &ExternalService) -> Element {
    Element::new("service", ns::EXTERNAL)
        .attr("host", service.host.as_str())
        .attr("port", service.port.to_string())
        .attr("transport", service.transport)
        .attr("type", service.kind)
}

fn with(service: Element, credential: &Credential) -> Element {
    service
        .attr("username", credential.username.as_str())
        .attr("password", credential.password.as_str())
        .attr("expires", datetime(credential.expires))
}

/// The service that a credential is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    host: &'a str,
    kind: &'a str,
    port: Option<u16>,
}

impl<'a> Asked<'a> {
    /// Host and type must be there, the port may be (§3.3).
    fn read(query: &'a Element) -> Result<Asked<'a>, StanzaError> {
        let wrong = |text| StanzaError::from(StanzaCondition::BadRequest).with_text(text);
        let mut elements = query.elements();
        let (Some(service), None) = (elements.next(), elements.next()) else {
            return Err(wrong("ask for one service"));
        };
        if !service.is("service", ns::EXTERNAL) {
            return Err(wrong("ask for a service"));
        }
        let (Some(host), Some(kind)) = (service.attribute("host"), service.attribute("type")) else {
            return Err(wrong("host and type say which service"));
        };
        let port = match service.attribute("port").map(str::parse) {
            None => None,
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => return Err(wrong("the port is no number of one")),
        };
        Ok(Asked { host, kind, port })
    }

    fn fits(&self, service: &ExternalService) -> bool {
        let same_port = self.port.is_none_or(|port| port == service.port);
        self.host.eq_ignore_ascii_case(&service.host) && self.kind == service.kind && same_port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_asked_for_one_service() {
        let service = |inside: &str| format!("<service {inside}/>");
        let table = [
            (service("host='a' type='turn'"), Some(("a", "turn", None))),
            (service("host='a' type='turn' port='3478'"), Some(("a", "turn", Some(3478)))),
            (String::new(), None),
            (service("host='a'"), None),
            (service("type='turn'"), None),
            (service("host='a' type='turn' port='-1'"), None),
            (service("host='a' type='turn'").repeat(2), None),
            ("<service xmlns='urn:x' host='a' type='turn'/>".into(), None),
        ];
        for (inside, expected) in table {
            let query = format!("<credentials xmlns='urn:xmpp:extdisco:2'>{inside}</credentials>");
            let query = Element::parse(query.as_bytes()).unwrap();
            let found = Asked::read(&query);
            if let Err(error) = &found {
                assert_eq!(error.condition, StanzaCondition::BadRequest, "{inside}");
            }
            assert_eq!(found.ok().map(|asked| (asked.host, asked.kind, asked.port)), expected, "{inside}");
        }
    }
}
