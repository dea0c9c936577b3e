//! The command line of `whimbrelctl room`.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum RoomCommand {
    /// List all rooms
    List,
    /// What a room is, how it is set, and who is in it
    Show {
        /// The room, like tea@conference.example.org
        jid: String,
    },
    /// Make a room: a private group, unless it is set otherwise
    Create(RoomCreateArgs),
    /// Destroy a room with its list of members and its archive; whoever is in it is told
    Destroy {
        /// The room
        jid: String,
        /// What is said about it
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// A room to go to instead
        #[arg(long, value_name = "JID")]
        alternate: Option<String>,
    },
    /// Who belongs to a room
    Member {
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// What occupants see of those who belong to a room beside what they may do (XEP-0317): badges like "teacher" or "host"
    Hat {
        #[command(subcommand)]
        command: HatCommand,
    },
    /// How a room is set; with NAME=VALUE, set it otherwise
    ///
    /// Names are those of the configuration form (XEP-0045) without `muc#roomconfig_`: `room config JID` lists them. A setting
    /// with several values takes them with commas between.
    Config {
        /// The room
        jid: String,
        /// Settings, like roomname='Tea at five' or membersonly=1
        #[arg(value_name = "NAME=VALUE", value_parser = parse_setting)]
        set: Vec<(String, String)>,
    },
}

/// `room create`.
#[derive(Debug, Args)]
pub(crate) struct RoomCreateArgs {
    /// The room, like tea@conference.example.org
    pub(crate) jid: String,
    /// An account that owns it; may be given more than once
    #[arg(long, value_name = "JID")]
    pub(crate) owner: Vec<String>,
    /// Settings, as `room config` takes them
    #[arg(value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List those who belong to a room, and those who are banned from it
    List {
        /// The room
        jid: String,
    },
    /// Make somebody a member of a room, or something else to it
    Add {
        /// The room
        jid: String,
        /// The account
        member: String,
        /// What it becomes
        #[arg(long, value_enum, default_value_t = Affiliation::Member)]
        affiliation: Affiliation,
        /// What is said about it
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Make somebody nothing to a room: no member, and not banned any more
    Remove {
        /// The room
        jid: String,
        /// The account
        member: String,
        /// What is said about it
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HatCommand {
    /// List the hats of those who belong to a room
    List {
        /// The room
        jid: String,
    },
    /// Give somebody who belongs to a room a hat, or another title to one that it has
    Add {
        /// The room
        jid: String,
        /// The account
        member: String,
        /// What the hat is, for programs: a URI, like https://example.org/hats#teacher
        uri: String,
        /// What it is, for people
        title: String,
    },
    /// Take a hat from somebody
    Remove {
        /// The room
        jid: String,
        /// The account
        member: String,
        /// The hat
        uri: String,
    },
}

/// What an account can be to a room.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Affiliation {
    /// Configures and destroys it, and says who is an admin
    Owner,
    /// Says who is a member and who is banned
    Admin,
    /// Belongs to it
    Member,
    /// Is banned from it
    Outcast,
}

impl Affiliation {
    /// Its name in XEP-0045.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Affiliation::Owner => "owner",
            Affiliation::Admin => "admin",
            Affiliation::Member => "member",
            Affiliation::Outcast => "outcast",
        }
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a setting is written NAME=VALUE".into()),
    }
}
