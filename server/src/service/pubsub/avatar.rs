//! Avatars seen through nodes (XEP-0084) and vCards (XEP-0153), converted as XEP-0398 says: the nodes have the picture, a vCard
//! that is asked for gets it, one that is set gives it to them, and presence tells of it.

use whimbrel_storage::directory::pubsub::{
    AccessModel, ITEM_ROW_BYTES, NODE_ROW_BYTES, NodeConfig, PubsubView,
};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use super::access::Visitor;
use super::notify::{Notice, PublishedItem};
use super::publish::Job;
use crate::effects::work;
use crate::env::Env;
use crate::limits::Limits;
use crate::proto::avatar::{self, Picture};
use crate::proto::errors::StanzaError;
use crate::proto::ns;
use crate::proto::pubsub::error;
use crate::proto::pubsub::request::Published;
use crate::user::actors::{Actors, Effects};
use crate::user::lifecycle::Showing;
use crate::user::presence;
use crate::xml::Element;

/// What the nodes of an account say of its avatar.
enum Said {
    /// Nothing: there is no such node.
    Nothing,
    /// There is none.
    None,
    /// There is one: its hash and its media type.
    Picture(String, Option<String>),
}

/// What the newest item of the avatar's metadata says. `charge` gets the bytes of the item: it may be as long as any, and is read
/// for each presence.
fn said(view: &PubsubView<'_>, charge: impl FnOnce(usize)) -> Result<Said, DirectoryError> {
    let Some(node) = view.node(ns::AVATAR_METADATA)? else { return Ok(Said::Nothing) };
    let Some(item) = view.last_item(&node)? else { return Ok(Said::None) };
    charge(item.payload.len());
    let Ok(metadata) = Element::parse(item.payload) else { return Ok(Said::None) };
    Ok(avatar::told(&metadata).map_or(Said::None, |(hash, media_type)| {
        Said::Picture(hash.to_owned(), media_type.map(str::to_owned))
    }))
}

/// A vCard of an account as the requester sees it: with the picture of the nodes, if it may look at them. Without a requester, as
/// strangers see it. `None`: there is neither.
pub(in crate::service) fn complete(
    env: &Env,
    fx: &Effects,
    (account, from): (&str, Option<&str>),
    vcard: Option<Element>,
) -> Result<Option<Element>, DirectoryError> {
    let found = env.shared.directory.pubsub(account, |view| {
        if view.usage()?.nodes == 0 {
            return Ok(None);
        }
        let (hash, media_type) = match said(&view, |bytes| fx.work.add_tree(bytes))? {
            Said::Nothing => return Ok(None),
            Said::None => return Ok(Some(None)),
            Said::Picture(hash, media_type) => (hash, media_type),
        };
        let Some(node) = view.node(ns::AVATAR_DATA)? else { return Ok(Some(None)) };
        let visitor = match from {
            Some(from) => Visitor::from_full(env, account, from)?,
            None => Visitor::stranger(),
        };
        if visitor.may_look(&node.config, visitor.member(&view, &node)?).is_err() {
            return Ok(Some(None));
        }
        let Some(item) = view.item(&node, &hash)? else { return Ok(Some(None)) };
        fx.work.add_tree(item.payload.len());
        let data = Element::parse(item.payload).ok();
        Ok(Some(data.and_then(|data| Picture::decode(&data.content(), media_type.as_deref()))))
    })?;
    Ok(match (found.flatten(), vcard) {
        // The nodes say nothing: the vCard is as it was set.
        (None, vcard) => vcard,
        (Some(None), None) => None,
        (Some(picture), vcard) => {
            let vcard = vcard.unwrap_or_else(|| Element::new("vCard", ns::VCARD));
            Some(avatar::with_picture(&vcard, picture.as_ref()))
        }
    })
}

/// A vCard that is set gives its picture to the nodes, in a transaction, or changes nothing. Returns what is to be told of it.
pub(in crate::service) fn take(
    transaction: &mut WriteTransaction<'_>,
    (local, owner, sender): (&str, &str, &str),
    picture: Option<&Picture>,
    (limits, now_ms): (&Limits, u64),
) -> Result<Result<Vec<Notice>, StanzaError>, DirectoryError> {
    let Some(view) = transaction.pubsub(local)? else { return Ok(Err(error::not_found())) };
    // On the writer's thread nothing is charged.
    let before = said(&view, |_| {})?;
    let usage = view.usage()?;
    let has_data = view.node(ns::AVATAR_DATA)?.is_some();
    let is_same = match (&before, picture) {
        (Said::Picture(hash, _), Some(picture)) => *hash == picture.hash,
        (Said::Nothing | Said::None, None) => true,
        _ => false,
    };
    if is_same {
        return Ok(Ok(Vec::new()));
    }
    // A vCard is for everybody, and so is the picture in one, unless the owner has said otherwise of the nodes.
    let defaults = NodeConfig { access: AccessModel::Open, ..NodeConfig::default() };
    let job = |node: &'static str, id: String, payload: Element| Job {
        local: local.to_owned(),
        visitor: Visitor::owner(owner.to_owned(), sender.to_owned()),
        node: node.to_owned(),
        options: None,
        defaults: defaults.clone(),
        items: vec![PublishedItem { id, payload: Published { id: None, payload: Some(payload) }.bytes() }],
        limits: limits.clone(),
        now_ms,
    };
    let jobs = match picture {
        Some(picture) => vec![
            job(ns::AVATAR_DATA, picture.hash.clone(), picture.data()),
            job(ns::AVATAR_METADATA, picture.hash.clone(), picture.metadata()),
        ],
        None => vec![job(ns::AVATAR_METADATA, "none".to_owned(), avatar::no_picture())],
    };
    // Together they fit, or nothing of it is written.
    let new_nodes = u64::from(matches!(before, Said::Nothing)) + u64::from(picture.is_some() && !has_data);
    let bytes: u64 =
        jobs.iter().flat_map(|job| &job.items).map(|item| ITEM_ROW_BYTES + item.payload.len() as u64).sum();
    let most = usage.bytes + bytes + 2 * (NODE_ROW_BYTES + 256);
    if usage.nodes + new_nodes > u64::from(limits.pep_nodes) || most > limits.pep_bytes {
        return Ok(Err(error::no_room()));
    }
    let mut notices = Vec::new();
    for job in jobs {
        match job.apply(transaction)? {
            Ok(notice) => notices.push(notice),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(notices))
}

/// A resource that shows itself tells of the picture (XEP-0398 §4), where those who see its presence may look at it.
pub(super) fn show(_: &mut Actors, env: &Env, fx: &mut Effects, event: &Showing<'_>) {
    fx.work.add(work::LOOK);
    let found = env.shared.directory.pubsub(event.account, |view| {
        if view.usage()?.nodes == 0 {
            return Ok(None);
        }
        let shown = |access| matches!(access, AccessModel::Open | AccessModel::Presence);
        match view.node(ns::AVATAR_METADATA)? {
            Some(node) if shown(node.config.access) => {}
            _ => return Ok(None),
        }
        Ok(match said(&view, |bytes| fx.work.add_tree(bytes))? {
            Said::Nothing => None,
            Said::None => Some(String::new()),
            Said::Picture(hash, _) => Some(hash),
        })
    });
    let hash = match found {
        Ok(found) => found.flatten(),
        Err(error) => return tracing::error!(user = event.account, %error, "cannot read an avatar"),
    };
    let Some(hash) = hash else { return };
    let mut tail = event.tail.borrow_mut();
    // It is read and written.
    fx.work.add_tree(2 * tail.len());
    let Ok(before) = Element::parse(&[presence::NAME, &tail].concat()) else { return };
    let after = avatar::with_hash(&before, &hash).to_bytes();
    tail.clear();
    tail.extend_from_slice(&after[presence::NAME.len()..]);
}
