//! Push (XEP-0357): clients enable and disable their devices. The push service itself is this server, at a domain of its own with
//! nothing behind it: [`crate::notifier`] speaks to the providers. When a device is told of something is decided in
//! [`crate::user::push`].

use whimbrel_storage::directory::{PushDevice, PushEnabled, Table};
use whimbrel_storage::jid::Jid;

use crate::config::Config;
use crate::env::Env;
use crate::proto::address::{self, Destination};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::push::{DeviceOptions, PushRequest, PushService};
use crate::service::reply::ReplyTo;
use crate::service::{Answers, Committed, Reply, Request, Scopes, Service, request};
use crate::stanza::{Kind, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::inbound::Inbound;
use crate::user::lifecycle::{AccountRemoved, Available, Detached, Hooks, Unavailable};
use crate::user::push;
use crate::user::writes::Area;
use crate::xml::Element;

/// Keeps the devices of accounts.
pub static SERVICE: Service = Service {
    name: "push",
    enabled: is_on,
    answers: &[
        Answers { element: "enable", namespace: ns::PUSH, scopes: Scopes::OWN, writes: Area::Alone, handle },
        Answers { element: "disable", namespace: ns::PUSH, scopes: Scopes::OWN, writes: Area::Alone, handle },
    ],
    features: &[(ns::PUSH, Scopes::OWN)],
    tables: &[Table::PushDevices],
    lifecycle: Hooks {
        available: Some(come),
        unavailable: Some(gone),
        detached: Some(detached),
        account_removed: Some(account_removed),
        ..Hooks::NONE
    },
    ..Service::NOTHING
};

fn is_on(config: &Config) -> bool {
    config.push.is_on()
}

fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Set {
        return StanzaCondition::BadRequest.into();
    }
    match PushRequest::read(&request.query) {
        Ok(PushRequest::Enable { jid, node, options }) => {
            match device_of(env, request, (&jid, node, options)) {
                Ok(device) => enable(actors, env, fx, request, device),
                Err(error) => Reply::Error(error),
            }
        }
        Ok(PushRequest::Disable { jid, node }) => match is_ours(env, request, &jid) {
            true => disable(actors, env, fx, request, node),
            // Nothing of other app servers is kept.
            false => Reply::Done,
        },
        Err(error) => Reply::Error(error),
    }
}

fn is_ours(env: &Env, request: &Request, jid: &Jid) -> bool {
    let jid = jid.borrowed();
    env.destination(Some(&jid), &request.account) == Destination::Push
}

/// The device that a client enables.
fn device_of(
    env: &Env,
    request: &Request,
    (jid, node, options): (&Jid, Option<String>, Option<DeviceOptions>),
) -> Result<PushDevice, StanzaError> {
    let wrong =
        |condition: StanzaCondition, text: &str| Err(StanzaError::from(condition).with_text(text.to_owned()));
    match env.destination(Some(&jid.borrowed()), &request.account) {
        Destination::Push => {}
        Destination::Remote => {
            let text = format!(
                "only {} of this server takes devices: it reaches no app server",
                env.shared.push_domain
            );
            return wrong(StanzaCondition::RemoteServerNotFound, &text);
        }
        _ => return wrong(StanzaCondition::ServiceUnavailable, "this is no push service"),
    }
    let Some(options) = options else {
        return wrong(StanzaCondition::NotAcceptable, "a form of publish-options says which device it is");
    };
    check_provider(env, &options)?;
    let resource = address::local_and_resource(&request.from).map_or("", |(_, resource)| resource);
    Ok(PushDevice {
        node: node.unwrap_or_else(|| resource.to_owned()),
        service: options.service.code(),
        token: options.token,
        keys: options.keys,
        topic: options.topic,
        resource: resource.to_owned(),
        flags: options.flags.0,
        time_to_live: options.time_to_live,
        sound: options.sound,
        click_action: options.click_action,
        enabled_ms: env.unix_ms(),
    })
}

/// Whether the push service is configured, and is that of the device's app.
fn check_provider(env: &Env, options: &DeviceOptions) -> Result<(), StanzaError> {
    let unfit = |text: String| StanzaError::from(StanzaCondition::NotAcceptable).with_text(text);
    let config = &env.config.push;
    if !config.has(options.service) {
        return Err(unfit(format!("this server does not use {}", options.service.name())));
    }
    match options.service {
        PushService::Fcm => Ok(()),
        PushService::Apns => {
            let (topic, own) = (&options.topic, &config.apns.topic);
            let fits = topic.is_empty()
                || topic == own
                || topic.strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with('.'));
            if !fits {
                return Err(unfit(format!("the topic must be {own}, or begin with it and a dot")));
            }
            match options.develops {
                Some(develops) if develops != config.apns.sandbox => {
                    let mode = if config.apns.sandbox { "dev" } else { "prod" };
                    Err(unfit(format!("the mode of this server is {mode}")))
                }
                _ => Ok(()),
            }
        }
        PushService::WebPush => {
            let outlet = env.shared.push.get();
            outlet.map_or(Ok(()), |outlet| outlet.check_endpoint(&options.token).map_err(unfit))
        }
    }
}

fn enable(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request, device: PushDevice) -> Reply {
    let (local, devices_max) = (request.account.clone(), env.config.push.devices as usize);
    let shared = env.shared.clone();
    request.commit(actors, env, fx, move |transaction| {
        let outcome = transaction.enable_push(&local, &device, devices_max)?;
        let account = transaction.account_id(&local)?;
        if let (Some(accounts), Some(account)) = (shared.push_accounts.get(), account) {
            accounts.note(account);
        }
        Ok(match outcome {
            PushEnabled::Done { resources, .. } => Ok(Committed::then(move |actors, _, fx| {
                account.into_iter().for_each(|account| actors.pushes.changed(account));
                replace_earlier(actors, fx, &local, &resources);
            })),
            PushEnabled::TooMany => {
                let text = format!("an account may have {devices_max} devices; disable one first");
                Err(StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text))
            }
        })
    })
}

/// A device has come under another resource: its earlier sessions, which wait to be resumed, are over.
fn replace_earlier(actors: &mut Actors, fx: &mut Effects, local: &str, resources: &[String]) {
    let Some(user) = actors.users.find(local) else { return };
    let earlier = resources.iter().filter_map(|resource| actors.users.find_resource(user, resource));
    fx.ended.extend(earlier.filter(|key| actors.users.is_detached(*key)));
}

fn disable(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    node: Option<String>,
) -> Reply {
    let local = request.account.clone();
    request.commit(actors, env, fx, move |transaction| {
        transaction.disable_push(&local, node.as_deref())?;
        let account = transaction.account_id(&local)?;
        Ok(Ok(Committed::then(move |actors, _, _| {
            account.into_iter().for_each(|account| actors.pushes.changed(account));
        })))
    })
}

/// What is sent to the push service: it says what it is, and has nothing else to say.
pub fn take(env: &Env, fx: &mut Effects, inbound: &Inbound<'_>) {
    if inbound.kind != Kind::Iq || inbound.typ != Type::Get {
        return inbound.refuse_politely(env, fx, StanzaCondition::ServiceUnavailable.into());
    }
    fx.work.add_tree(inbound.stanza.bytes().len());
    let Some(query) = request::only_child(inbound.stanza.to_element()) else { return };
    let node = query.attribute("node");
    let answer = match (query.name(), query.namespace(), node) {
        ("query", ns::DISCO_INFO, None) => describe(),
        ("query", ns::DISCO_ITEMS, None) => Element::new("query", ns::DISCO_ITEMS),
        ("query", ns::DISCO_INFO | ns::DISCO_ITEMS, Some(_)) => {
            return inbound.refuse(env, fx, StanzaCondition::ItemNotFound.into());
        }
        _ => return inbound.refuse(env, fx, StanzaCondition::ServiceUnavailable.into()),
    };
    let reply_to = ReplyTo::new(inbound.from, inbound.to_text, inbound.id.unwrap_or_default());
    reply_to.send(env, fx, Reply::Result(answer));
}

/// XEP-0357 §4: an app server of its own kind.
fn describe() -> Element {
    let identity = Element::new("identity", ns::DISCO_INFO).attr("category", "pubsub").attr("type", "push");
    let feature = |name: &str| Element::new("feature", ns::DISCO_INFO).attr("var", name);
    let features = [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PUSH].map(feature);
    Element::new("query", ns::DISCO_INFO).child(identity).children(features)
}

fn come(actors: &mut Actors, _: &Env, _: &mut Effects, event: &Available<'_>) {
    push::returned(actors, event.key);
}

/// The session is over: what it has not acknowledged waits now.
fn gone(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Unavailable<'_>) {
    if event.said.is_none() {
        push::gone(actors, env, fx, event.key);
    }
}

fn detached(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Detached) {
    push::gone(actors, env, fx, event.key);
}

fn account_removed(actors: &mut Actors, _: &Env, _: &mut Effects, event: &AccountRemoved<'_>) {
    actors.pushes.forget(event.id);
}
