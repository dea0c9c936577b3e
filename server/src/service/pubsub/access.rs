//! Who asks, and what they may do with a node.
//!
//! | who | learns that there is a node which it may not look at |
//! | --- | --- |
//! | the owner, and those who see the owner's presence | yes |
//! | contacts in the owner's roster, and those whom the owner has made members of the node | yes |
//! | anybody else | no: the node is not there, as in an account that does not exist |

use whimbrel_storage::directory::pubsub::{
    AccessModel, Affiliation, Member, Node, NodeConfig, PublishModel, PubsubView, SubscriptionState,
};
use whimbrel_storage::directory::{DirectoryError, Subscription};

use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::pubsub::error;
use crate::service::Request;

/// How somebody stands to the owner of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// The owner does not know it.
    Stranger,
    /// It is in the owner's roster.
    Contact,
    /// It sees the owner's presence.
    Subscriber,
    /// It is the owner.
    Owner,
}

/// Somebody who asks something of the nodes of an account.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// Its bare JID.
    pub(super) bare: String,
    /// Its full JID.
    pub(super) full: String,
    local: String,
    standing: Standing,
    /// Groups of the owner's roster that it is in.
    groups: Vec<String>,
}

impl Visitor {
    /// Who has sent a request.
    pub(super) fn of(env: &Env, request: &Request) -> Result<Visitor, DirectoryError> {
        Visitor::from_full(env, &request.account, &request.from)
    }

    /// The owner, by the account's bare JID and the full one of the client that asks.
    pub(super) fn owner(bare: String, full: String) -> Visitor {
        let local = address::local_of(&bare).to_owned();
        Visitor { bare, full, local, standing: Standing::Owner, groups: Vec::new() }
    }

    /// Somebody of whom nothing is known.
    pub(super) fn stranger() -> Visitor {
        let nobody = String::new;
        Visitor {
            bare: nobody(),
            full: nobody(),
            local: nobody(),
            standing: Standing::Stranger,
            groups: Vec::new(),
        }
    }

    /// Somebody by its full JID, who looks at the nodes of an account.
    pub(super) fn from_full(env: &Env, account: &str, full: &str) -> Result<Visitor, DirectoryError> {
        let local = address::local_of(full);
        let bare = address::bare_of(full).to_owned();
        let (mut standing, mut groups) = (Standing::Stranger, Vec::new());
        if local == account {
            standing = Standing::Owner;
        } else if let Some(item) = env.shared.directory.roster_item(account, &bare)? {
            standing = match item.subscription {
                Subscription::From | Subscription::Both => Standing::Subscriber,
                _ if item.listed => Standing::Contact,
                _ => Standing::Stranger,
            };
            if item.listed {
                groups = item.groups;
            }
        }
        Ok(Visitor { bare, full: full.to_owned(), local: local.to_owned(), standing, groups })
    }

    /// Whether it is the owner.
    pub(super) fn is_owner(&self) -> bool {
        self.standing == Standing::Owner
    }

    /// Whether it sees the owner's presence.
    pub(super) fn sees_presence(&self) -> bool {
        self.standing >= Standing::Subscriber
    }

    /// The answer to what only the owner may ask.
    pub(super) fn not_the_owners(&self) -> StanzaError {
        match self.standing {
            Standing::Stranger => error::not_found(),
            _ => StanzaCondition::Forbidden.into(),
        }
    }

    /// What it is to a node.
    pub(super) fn member(&self, view: &PubsubView<'_>, node: &Node) -> Result<Member, DirectoryError> {
        if self.is_owner() || node.members == 0 {
            return Ok(Member::default());
        }
        view.member(node, &self.bare, Some(&self.local))
    }

    /// As [`Visitor::member`], of its full JID: only a subscription.
    pub(super) fn member_as_resource(
        &self,
        view: &PubsubView<'_>,
        node: &Node,
    ) -> Result<Member, DirectoryError> {
        if node.members == 0 {
            return Ok(Member::default());
        }
        view.member(node, &self.full, Some(&self.local))
    }

    /// Hides a node from those who are not to know of it.
    fn hide(&self, member: Member, error: StanzaError) -> StanzaError {
        match self.standing == Standing::Stranger && member == Member::default() {
            true => error::not_found(),
            false => error,
        }
    }

    /// Whether it may look at a node's items (XEP-0060 §6.5).
    pub(super) fn may_look(&self, config: &NodeConfig, member: Member) -> Result<(), StanzaError> {
        match (config.access, member.subscription) {
            (AccessModel::Authorize, SubscriptionState::Pending) => Err(error::pending_subscription()),
            (AccessModel::Authorize, SubscriptionState::None) if !self.is_let_in(member) => {
                let error = error::with(StanzaCondition::NotAuthorized, "not-subscribed");
                Err(self.hide(member, error))
            }
            _ => self.may_subscribe(config, member),
        }
    }

    /// Whether the owner has let it in by name.
    fn is_let_in(&self, member: Member) -> bool {
        self.is_owner() || matches!(member.affiliation, Affiliation::Member | Affiliation::Publisher)
    }

    /// Whether it may subscribe, or ask to (XEP-0060 §6.1).
    pub(super) fn may_subscribe(&self, config: &NodeConfig, member: Member) -> Result<(), StanzaError> {
        if self.is_let_in(member) {
            return Ok(());
        }
        if matches!(member.affiliation, Affiliation::Outcast | Affiliation::PublishOnly) {
            return Err(StanzaCondition::Forbidden.into());
        }
        let refused = match config.access {
            AccessModel::Open | AccessModel::Authorize => return Ok(()),
            AccessModel::Presence if self.standing >= Standing::Subscriber => return Ok(()),
            AccessModel::Presence => error::presence_required(),
            AccessModel::Roster if self.groups.iter().any(|group| config.groups.contains(group)) => {
                return Ok(());
            }
            AccessModel::Roster => error::not_in_roster_group(),
            AccessModel::Whitelist => error::closed_node(),
        };
        Err(self.hide(member, refused))
    }

    /// Whether it may publish (XEP-0060 §7.1.3.1).
    pub(super) fn may_publish(&self, config: &NodeConfig, member: Member) -> Result<(), StanzaError> {
        let publishes = match config.publish {
            _ if self.is_owner() => true,
            _ if matches!(member.affiliation, Affiliation::Publisher | Affiliation::PublishOnly) => true,
            _ if member.affiliation == Affiliation::Outcast => false,
            PublishModel::Publishers => false,
            PublishModel::Subscribers => member.subscription == SubscriptionState::Subscribed,
            PublishModel::Open => self.may_look(config, member).is_ok(),
        };
        if publishes {
            return Ok(());
        }
        Err(match self.may_look(config, member) {
            Ok(()) => StanzaCondition::Forbidden.into(),
            Err(error) => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitor(standing: Standing) -> Visitor {
        Visitor {
            bare: "romeo@x".into(),
            full: "romeo@x/1".into(),
            local: "romeo".into(),
            standing,
            groups: if standing >= Standing::Contact { vec!["friends".into()] } else { Vec::new() },
        }
    }

    fn config(access: AccessModel, groups: &[&str]) -> NodeConfig {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        NodeConfig { access, groups, ..NodeConfig::default() }
    }

    fn said(result: Result<(), StanzaError>) -> String {
        match result {
            Ok(()) => "ok".into(),
            Err(error) => match error.application {
                Some((name, _)) => format!("{} {name}", error.condition),
                None => error.condition.to_string(),
            },
        }
    }

    #[test]
    fn each_access_model_lets_in_whom_the_xep_says() {
        use AccessModel::{Authorize, Open, Presence, Roster, Whitelist};
        use Standing::{Contact, Owner, Stranger, Subscriber};
        let closed = "not-allowed closed-node";
        let presence = "not-authorized presence-subscription-required";
        let group = "not-authorized not-in-roster-group";
        let authorize = "not-authorized not-subscribed";
        let hidden = "item-not-found";
        let table = [
            (
                Open,
                [hidden; 0].as_slice(),
                [(Owner, "ok"), (Subscriber, "ok"), (Contact, "ok"), (Stranger, "ok")],
            ),
            (Presence, &[], [(Owner, "ok"), (Subscriber, "ok"), (Contact, presence), (Stranger, hidden)]),
            (Roster, &["friends"], [(Owner, "ok"), (Subscriber, "ok"), (Contact, "ok"), (Stranger, hidden)]),
            (Roster, &["others"], [(Owner, "ok"), (Subscriber, group), (Contact, group), (Stranger, hidden)]),
            (
                Authorize,
                &[],
                [(Owner, "ok"), (Subscriber, authorize), (Contact, authorize), (Stranger, hidden)],
            ),
            (Whitelist, &[], [(Owner, "ok"), (Subscriber, closed), (Contact, closed), (Stranger, hidden)]),
        ];
        for (access, groups, rows) in table {
            for (standing, expected) in rows {
                let found = visitor(standing).may_look(&config(access, groups), Member::default());
                assert_eq!(said(found), expected, "{access:?} {groups:?} {standing:?}");
            }
        }
    }

    #[test]
    fn whom_the_owner_has_named_gets_what_was_granted() {
        let member = |affiliation| Member { affiliation, ..Member::default() };
        let stranger = visitor(Standing::Stranger);
        let closed = config(AccessModel::Whitelist, &[]);
        let open = config(AccessModel::Open, &[]);
        for (affiliation, look, publish) in [
            (Affiliation::None, "item-not-found", "item-not-found"),
            (Affiliation::Member, "ok", "forbidden"),
            (Affiliation::Publisher, "ok", "ok"),
            (Affiliation::PublishOnly, "forbidden", "ok"),
            (Affiliation::Outcast, "forbidden", "forbidden"),
        ] {
            assert_eq!(said(stranger.may_look(&closed, member(affiliation))), look, "{affiliation:?}");
            assert_eq!(said(stranger.may_publish(&closed, member(affiliation))), publish, "{affiliation:?}");
        }
        assert_eq!(said(stranger.may_look(&open, member(Affiliation::Outcast))), "forbidden");
        let waiting = Member { subscription: SubscriptionState::Pending, ..Member::default() };
        let asked = config(AccessModel::Authorize, &[]);
        assert_eq!(said(stranger.may_look(&asked, waiting)), "not-authorized pending-subscription");
        let subscribed = Member { subscription: SubscriptionState::Subscribed, ..Member::default() };
        assert_eq!(said(stranger.may_look(&asked, subscribed)), "ok");
    }

    #[test]
    fn who_publishes_follows_the_publish_model() {
        let subscribed = Member { subscription: SubscriptionState::Subscribed, ..Member::default() };
        for (publish, bare, as_subscriber) in [
            (PublishModel::Publishers, "forbidden", "forbidden"),
            (PublishModel::Subscribers, "forbidden", "ok"),
            (PublishModel::Open, "ok", "ok"),
        ] {
            let config = NodeConfig { publish, ..config(AccessModel::Open, &[]) };
            let stranger = visitor(Standing::Stranger);
            assert_eq!(said(stranger.may_publish(&config, Member::default())), bare, "{publish:?}");
            assert_eq!(said(stranger.may_publish(&config, subscribed)), as_subscriber, "{publish:?}");
            assert_eq!(said(visitor(Standing::Owner).may_publish(&config, Member::default())), "ok");
        }
    }
}
