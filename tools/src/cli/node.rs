//! The command line of `whimbrelctl node`.

use clap::{Args, Subcommand, ValueEnum};

use super::room::parse_setting;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List all nodes
    List,
    /// What a node is, who owns it, and how it is set
    Show {
        /// The node
        node: String,
    },
    /// Make a node: everybody may subscribe and look, its owners publish, unless it is set otherwise
    Create(NodeCreateArgs),
    /// How a node is set; with NAME=VALUE, set it otherwise
    ///
    /// Names are those of the configuration form (XEP-0060) without `pubsub#`: `node config NODE` lists them.
    Config {
        /// The node
        node: String,
        /// Settings, like title=News or access_model=whitelist
        #[arg(value_name = "NAME=VALUE", value_parser = parse_setting)]
        set: Vec<(String, String)>,
    },
    /// Delete a node with its items and its list of subscribers; they are told
    Delete {
        /// The node
        node: String,
    },
    /// Who is affiliated with a node or subscribed to it; with MEMBER and KIND, make an account something else to it
    Affiliation {
        /// The node
        node: String,
        /// The account
        #[arg(requires = "kind")]
        member: Option<String>,
        /// What it becomes
        #[arg(value_enum)]
        kind: Option<Affiliation>,
    },
}

/// `node create`.
#[derive(Debug, Args)]
pub(crate) struct NodeCreateArgs {
    /// The node, a name of your choice
    pub(crate) node: String,
    /// An account that owns it; may be given more than once
    #[arg(long, value_name = "JID")]
    pub(crate) owner: Vec<String>,
    /// Settings, as `node config` takes them
    #[arg(value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) set: Vec<(String, String)>,
}

/// What an account can be to a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Affiliation {
    /// Configures and deletes it, says who is what, publishes
    Owner,
    /// Publishes and looks
    Publisher,
    /// Publishes, and does not look
    PublishOnly,
    /// Looks, whatever the access model
    Member,
    /// Nothing more than others
    None,
    /// Is shut out
    Outcast,
}

impl Affiliation {
    /// Its name in XEP-0060.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Affiliation::Owner => "owner",
            Affiliation::Publisher => "publisher",
            Affiliation::PublishOnly => "publish-only",
            Affiliation::Member => "member",
            Affiliation::None => "none",
            Affiliation::Outcast => "outcast",
        }
    }
}
