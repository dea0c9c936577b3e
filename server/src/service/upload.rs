//! Slots for HTTP upload (XEP-0363). The files themselves come and go over HTTP (`crate::upload`).

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::{SlotRefused, Table, UPLOAD_RANDOM_BYTES, Upload, UploadId};
use whimbrel_upload::{media, url};

use crate::clock::datetime;
use crate::config::UploadConfig;
use crate::env::Env;
use crate::proto::errors::{ApplicationDetail, StanzaCondition, StanzaError};
use crate::proto::forms::{Field, FieldType, Form};
use crate::proto::ns;
use crate::service::reply::ReplyTo;
use crate::service::{Committed, Reply, Request, Scope, Service, request};
use crate::stanza::{Kind, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::inbound::Inbound;
use crate::user::writes::Area;
use crate::xml::Element;

/// After how long a client may ask again where only others can make room.
const ALL_FULL_SECONDS: u64 = 3600;

/// Owns what the directory has of the uploads of accounts.
pub static SERVICE: Service = Service {
    name: "http upload",
    enabled: |config| config.upload.enabled,
    tables: &[Table::UploadsOfAccounts, Table::UploadUsage],
    ..Service::NOTHING
};

/// What is sent to the service.
pub fn take(actors: &mut Actors, env: &Env, fx: &mut Effects, inbound: &Inbound<'_>) {
    if inbound.kind != Kind::Iq || !matches!(inbound.typ, Type::Get | Type::Set) {
        return inbound.refuse_politely(env, fx, StanzaCondition::ServiceUnavailable.into());
    }
    fx.work.add_tree(inbound.stanza.bytes().len());
    let Some(query) = request::only_child(inbound.stanza.to_element()) else { return };
    let request = Request {
        from: inbound.from.to_owned(),
        from_local: inbound.local().to_owned(),
        sender: Some(inbound.sender),
        to: inbound.to_text.map(str::to_owned),
        account: inbound.local().to_owned(),
        scope: Scope::Server,
        is_hidden: false,
        typ: inbound.typ,
        id: inbound.id.unwrap_or_default().to_owned(),
        query,
        pending_ack: inbound.pending_ack,
        area: Area::Alone,
    };
    let reply = answer(actors, env, fx, &request);
    let reply_to = ReplyTo::new(inbound.from, inbound.to_text, inbound.id.unwrap_or_default());
    reply_to.send(env, fx, reply);
}

fn answer(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let (query, config) = (&request.query, &env.config.upload);
    match (query.name(), query.namespace(), request.typ) {
        ("request", ns::HTTP_UPLOAD, Type::Get) => match wanted(query, config) {
            Ok(wanted) => give(actors, env, fx, request, wanted),
            Err(error) => {
                if error.condition == StanzaCondition::NotAcceptable {
                    env.metrics().refused_upload_bytes.add(1);
                }
                Reply::Error(error)
            }
        },
        ("query", ns::DISCO_INFO | ns::DISCO_ITEMS, Type::Get) if query.attribute("node").is_some() => {
            StanzaCondition::ItemNotFound.into()
        }
        ("query", ns::DISCO_INFO, Type::Get) => Reply::Result(describe(config)),
        ("query", ns::DISCO_ITEMS, Type::Get) => Reply::Result(Element::new("query", ns::DISCO_ITEMS)),
        _ => StanzaCondition::ServiceUnavailable.into(),
    }
}

/// §4: what it is, and how large a file may be.
fn describe(config: &UploadConfig) -> Element {
    let identity = Element::new("identity", ns::DISCO_INFO)
        .attr("category", "store")
        .attr("type", "file")
        .attr("name", "HTTP File Upload");
    let feature = |name: &str| Element::new("feature", ns::DISCO_INFO).attr("var", name);
    let features = [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::HTTP_UPLOAD].map(feature);
    let size = Field::new(FieldType::TextSingle, "max-file-size").value(&config.file_bytes_max().to_string());
    let form = Form::result(ns::HTTP_UPLOAD).field(size).into_element();
    Element::new("query", ns::DISCO_INFO).child(identity).children(features).child(form)
}

/// A file for which a slot is asked.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    bytes: u64,
    media: String,
}

/// §5.
fn wanted(query: &Element, config: &UploadConfig) -> Result<Wanted, StanzaError> {
    let wrong = |text: &'static str| StanzaError::from(StanzaCondition::BadRequest).with_text(text);
    let name = query.attribute("filename").ok_or_else(|| wrong("filename is missing"))?;
    if !url::is_name(name) {
        return Err(wrong("filename must have 1 to 255 bytes, no slash, and no control characters"));
    }
    let size = query.attribute("size").ok_or_else(|| wrong("size is missing"))?;
    let is_number = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    let bytes: u64 = if is_number { size.parse().unwrap_or(u64::MAX) } else { 0 };
    if bytes == 0 {
        return Err(wrong("size must be the number of bytes, at least 1"));
    }
    let media = query.attribute("content-type").unwrap_or_default();
    if !media.is_empty() && !media::is_type(media) {
        return Err(wrong("content-type is no media type"));
    }
    let bytes_max = config.file_bytes_max();
    if bytes > bytes_max {
        let detail = ApplicationDetail::Child("max-file-size", bytes_max.to_string());
        let text = format!("a file may have {bytes_max} bytes");
        let error = StanzaError::from(StanzaCondition::NotAcceptable).with_text(text);
        return Err(error.with_application("file-too-large", ns::HTTP_UPLOAD).with_detail(detail));
    }
    Ok(Wanted { name: name.to_owned(), bytes, media: media.to_owned() })
}

/// Gives a slot, when it is in the directory.
fn give(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request, wanted: Wanted) -> Reply {
    let Some(slots) = env.shared.uploads.get() else { return StanzaCondition::ServiceUnavailable.into() };
    let config = &env.config.upload;
    let now_ms = env.unix_ms();
    let random = env.shared.chance.bytes::<UPLOAD_RANDOM_BYTES>();
    let until_seconds = now_ms / 1000 + u64::from(config.slot_seconds);
    let slot = Upload {
        id: UploadId::new(now_ms, random),
        actor: ActorId::NOBODY,
        local: request.from_local.clone(),
        name: wanted.name,
        media: wanted.media,
        bytes: wanted.bytes,
        time_ms: until_seconds * 1000,
        checksum: 0,
    };
    let (put, get) = slots.urls(&env.config, &slot.id, &slot.name, until_seconds);
    let (limits, keep_ms) = (config.limits(), config.keep_ms());
    let transfer_ms = u64::from(config.transfer_seconds) * 1000;
    request.commit(actors, env, fx, move |transaction| {
        Ok(match transaction.add_upload_slot(slot, &limits, now_ms)? {
            Ok(()) => Ok(Committed { result: Some(slot_element(&put, &get)), after: None }),
            Err(refused) => Err(full(refused, now_ms, keep_ms, transfer_ms)),
        })
    })
}

fn slot_element(put: &str, get: &str) -> Element {
    let part = |name: &'static str, url: &str| Element::new(name, ns::HTTP_UPLOAD).attr("url", url);
    Element::new("slot", ns::HTTP_UPLOAD).child(part("put", put)).child(part("get", get))
}

/// §6: there is no room now; when there may be.
fn full(refused: SlotRefused, now_ms: u64, keep_ms: Option<u64>, transfer_ms: u64) -> StanzaError {
    let (text, retry_ms) = match refused {
        SlotRefused::Slots { until_ms } => {
            ("use the slots that you have, or let them end", Some(until_ms + transfer_ms))
        }
        SlotRefused::Day { ends_ms } => ("you have uploaded enough for today", Some(ends_ms)),
        SlotRefused::Account { oldest_ms } => {
            let retry = oldest_ms.zip(keep_ms).map(|(oldest, keep)| oldest + keep);
            ("your files take all the room that you have", retry)
        }
        SlotRefused::All => ("the server has no room for files", Some(now_ms + ALL_FULL_SECONDS * 1000)),
    };
    let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
    match retry_ms {
        None => error,
        Some(retry_ms) => {
            let stamp = datetime(retry_ms.max(now_ms).div_ceil(1000));
            let detail = ApplicationDetail::Attribute("stamp", stamp);
            error.with_application("retry", ns::HTTP_UPLOAD).with_detail(detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_for_a_name_a_size_and_a_type() {
        let config = UploadConfig { file_mib_max: 1, ..UploadConfig::default() };
        for (attributes, expected) in [
            (
                "filename='a.jpg' size='1048576' content-type='image/jpeg'",
                Ok(("a.jpg", 1 << 20, "image/jpeg")),
            ),
            ("filename='&#228; b' size='1'", Ok(("ä b", 1, ""))),
            ("filename='a' size='1048577'", Err("not-acceptable")),
            ("filename='a' size='99999999999999999999999'", Err("not-acceptable")),
            ("filename='a' size='0'", Err("bad-request")),
            ("filename='a' size='-1'", Err("bad-request")),
            ("filename='a' size='+1'", Err("bad-request")),
            ("filename='a' size=''", Err("bad-request")),
            ("filename='a'", Err("bad-request")),
            ("size='1'", Err("bad-request")),
            ("filename='' size='1'", Err("bad-request")),
            ("filename='../a' size='1'", Err("bad-request")),
            ("filename='..' size='1'", Err("bad-request")),
            ("filename='a&#9;b' size='1'", Err("bad-request")),
            ("filename='a' size='1' content-type='image'", Err("bad-request")),
        ] {
            let query = format!("<request xmlns='{}' {attributes}/>", ns::HTTP_UPLOAD);
            let found = wanted(&Element::parse(query.as_bytes()).unwrap(), &config);
            let found = found.map_err(|error| error.condition.name());
            let expected = expected.map(|(name, bytes, media): (&str, u64, &str)| Wanted {
                name: name.into(),
                bytes,
                media: media.into(),
            });
            assert_eq!(found, expected, "{attributes}");
        }
    }

    #[test]
    fn errors_say_what_is_allowed_and_when() {
        let written = |error: &StanzaError| {
            let mut bytes = Vec::new();
            error.write(&mut bytes);
            String::from_utf8(bytes).unwrap()
        };
        let query = "<request xmlns='urn:xmpp:http:upload:0' filename='a' size='209715200'/>";
        let query = Element::parse(query.as_bytes()).unwrap();
        let error = written(&wanted(&query, &UploadConfig::default()).unwrap_err());
        let expected = "<file-too-large xmlns='urn:xmpp:http:upload:0'><max-file-size>104857600</max-file-size>\
            </file-too-large></error>";
        assert!(error.ends_with(expected), "{error}");
        let day = 86_400_000;
        for (refused, stamp) in [
            (SlotRefused::Day { ends_ms: 2 * day }, Some("1970-01-03T00:00:00Z")),
            (SlotRefused::Slots { until_ms: day + 1000 }, Some("1970-01-02T00:00:04Z")),
            (SlotRefused::Account { oldest_ms: Some(day) }, Some("1970-01-04T00:00:00Z")),
            (SlotRefused::Account { oldest_ms: None }, None),
            (SlotRefused::All, Some("1970-01-02T01:00:00Z")),
        ] {
            let error = written(&full(refused, day, Some(2 * day), 3000));
            let retry = stamp.map(|stamp| format!("<retry xmlns='urn:xmpp:http:upload:0' stamp='{stamp}'/>"));
            assert!(error.contains("<resource-constraint"), "{error}");
            assert_eq!(error.contains("<retry"), retry.is_some(), "{error}");
            assert!(retry.is_none_or(|retry| error.contains(&retry)), "{error}");
        }
    }
}
