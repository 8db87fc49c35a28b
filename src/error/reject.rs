//! The agent's reasons for a refusal.

use std::fmt;

use super::Printable;

macro_rules! reject_reasons {
    ($($(#[$doc:meta])* $variant:ident = $wire:literal, $remedy:literal;)*) => {
        /// Why the agent refused a plugin.
        ///
        /// `Display` is the text on the wire, with characters that a terminal might obey
        /// escaped.
        ///
        /// # Examples
        ///
        /// ```
        /// use wedr_plugin_sdk::RejectReason;
        /// assert_eq!(RejectReason::HashMismatch.to_string(), "hash_mismatch");
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RejectReason {
            $($(#[$doc])* $variant,)*
            /// A reason that this version of the SDK does not know, as the agent wrote it:
            /// escape it before you print it to a terminal, or print the reason's `Display`.
            Other(String),
        }

        impl RejectReason {
            pub(crate) fn from_wire(text: String) -> Self {
                match text.as_str() {
                    $($wire => Self::$variant,)*
                    _ => Self::Other(text),
                }
            }

            pub(super) fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $wire,)*
                    Self::Other(text) => text,
                }
            }

            pub(super) fn remedy(&self) -> &'static str {
                match self {
                    $(Self::$variant => $remedy,)*
                    Self::Other(_) => "a reason this SDK does not know; the agent's log says more",
                }
            }
        }
    };
}

reject_reasons! {
    /// The agent could not make sense of hello.
    BadHandshake = "bad_handshake",
        "it could not read hello; use an SDK and an agent of matching versions";
    /// The agent speaks another schema version.
    SchemaMismatch = "schema_mismatch",
        "it speaks another schema version than 1; rebuild the plugin with the SDK release that \
         goes with this agent";
    /// No plugin is enrolled under this id.
    UnknownPluginId = "unknown_plugin_id",
        "no plugin is enrolled under this id; enrol it with `wedr-plugin enroll`, or correct \
         WEDR_PLUGIN_ID";
    /// The plugin runs from another path than the one enrolled.
    PathMismatch = "path_mismatch",
        "the binary runs from another path than the one enrolled; start it from there, or run \
         `wedr-plugin update <id>`";
    /// The binary changed since it was enrolled.
    HashMismatch = "hash_mismatch",
        "the binary changed since it was enrolled; run `wedr-plugin update <id>`";
    /// The binary's signature is missing or wrong.
    SignatureInvalid = "signature_invalid",
        "the binary's signature is missing or does not verify; sign it, then run \
         `wedr-plugin update <id>`";
    /// The plugin's enrolment was revoked.
    Revoked = "revoked",
        "its enrolment was revoked; if it may run again, enrol it anew with `wedr-plugin enroll`";
    /// The agent has as many sessions as it takes.
    TooManySessions = "too_many_sessions",
        "the agent has as many plugin sessions as it takes; stop one, or start again later";
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(self.as_str()).fmt(f)
    }
}
