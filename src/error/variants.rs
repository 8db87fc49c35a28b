//! The variants of `Error`, for the unit tests and for tests/errors.rs.

/// Calls the macro `$of` with the names of all variants.
macro_rules! for_all_variants {
    ($of:ident) => {
        $of! {
            MissingPluginId,
            Rejected,
            Shutdown,
            Io,
            Connect,
            HandshakeTimeout,
            HandshakeClosed,
            Protocol,
            UntrustedAgent,
            PayloadTooLarge,
            PayloadTooDeep,
            Json,
            QueueFull,
            FlushTimeout,
            Undelivered,
            SignalHandler,
            InvalidConfig,
            Plugin,
        }
    };
}
