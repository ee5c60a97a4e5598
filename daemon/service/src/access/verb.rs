//! What can be done, as policies and the audit name it.

use minoots_kernel::{Change, TimerDefinition, TimerInstance};

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// One thing that a caller can ask for.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Verb {
            $($(#[$doc])* $name,)*
        }

        impl Verb {
            /// Every verb.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// The verb of a word.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|verb| verb.as_str() == text)
            }
        }
    };
}

verbs! {
    /// Make a timer.
    CreateTimer = "timers.create";
    /// Read one timer.
    ReadTimer = "timers.read";
    /// Read a page of timers.
    ListTimers = "timers.list";
    /// Read what became of a timer's occurrences.
    ReadHistory = "timers.history";
    /// Cancel a timer.
    CancelTimer = "timers.cancel";
    /// Move a timer's next occurrence.
    RescheduleTimer = "timers.reschedule";
    /// Pause a timer.
    PauseTimer = "timers.pause";
    /// Let a paused timer go on.
    ResumeTimer = "timers.resume";
    /// Fire a timer now.
    FireTimer = "timers.fire";
    /// Acknowledge a fire.
    AcknowledgeFire = "timers.acknowledge";
    /// Follow the events of the tenant.
    WatchEvents = "events.watch";
    /// Send a message to a team.
    Broadcast = "teams.broadcast";
    /// Read how the service is doing.
    ReadStatus = "status.read";
    /// Read the figures of the whole service; for the service's operator.
    ReadMetrics = "metrics.read";
    /// Read what is used of the tenant's quotas.
    ReadUsage = "usage.read";
    /// Read the names of the tenant's API keys.
    ReadKeys = "keys.read";
    /// Make, change, rotate or revoke an API key of the tenant.
    ManageKeys = "keys.manage";
    /// Read the tenants; for the service's operator.
    ReadTenants = "tenants.read";
    /// Make or change a tenant; for the service's operator.
    ManageTenants = "tenants.manage";
    /// Read the names of the tenant's secrets.
    ReadSecrets = "secrets.read";
    /// Set, rotate or remove a secret of the tenant.
    ManageSecrets = "secrets.manage";
    /// Read event and payload schemas.
    ReadSchemas = "schemas.read";
    /// Register a payload schema.
    ManageSchemas = "schemas.manage";
    /// Read the tenant's audit.
    ReadAudit = "audit.read";
    /// Rotate the signing key; for the service's operator.
    ManageSigning = "signing.manage";
}

impl Verb {
    /// What a change to a timer is called.
    pub const fn of_change(change: &Change) -> Self {
        match change {
            Change::Cancel { .. } => Self::CancelTimer,
            Change::Reschedule(_) => Self::RescheduleTimer,
            Change::Pause { .. } => Self::PauseTimer,
            Change::Resume => Self::ResumeTimer,
            Change::FireNow => Self::FireTimer,
        }
    }

    /// True for a command, which the audit keeps; false for a question.
    pub const fn is_command(self) -> bool {
        !matches!(
            self,
            Self::ReadTimer
                | Self::ListTimers
                | Self::ReadHistory
                | Self::WatchEvents
                | Self::ReadStatus
                | Self::ReadMetrics
                | Self::ReadUsage
                | Self::ReadKeys
                | Self::ReadTenants
                | Self::ReadSecrets
                | Self::ReadSchemas
                | Self::ReadAudit
        )
    }
}

/// What a verb is about. It is always of the caller's tenant: what is of another tenant is not found.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The tenant as a whole.
    Tenant,
    /// A timer that is to be made.
    NewTimer(&'a TimerDefinition),
    /// A timer that is there.
    Timer(&'a TimerInstance),
    /// Something with a name: a key, a secret, a schema.
    Named(&'a str),
}
