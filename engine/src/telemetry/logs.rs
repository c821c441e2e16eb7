//! Log lines: structured, on stderr (M3), for people or as JSON.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{LogFormat, Settings};

/// Reads a filter in the syntax of `RUST_LOG`.
///
/// # Errors
/// A text that says which directive is malformed.
pub fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(text)
        .map_err(|error: ParseError| format!("{text:?} is not a log filter: {error}"))
}

/// Installs the process's only subscriber; later calls change nothing.
pub fn install(settings: &Settings) {
    // The filter was parsed once already when the settings were checked.
    let filter = parse_filter(&settings.log_filter).unwrap_or_default();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match settings.log_format {
        LogFormat::Human => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_target(false)
            .try_init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    };
    // Fails only when a test or an embedding program installed its own before.
    drop(installed);
}
