//! Prices: dated data, not constants. `input` is in dollars per million tokens, the rest are multiples of it.

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
pub struct Prices {
    /// The day on which the providers' pages said so.
    pub date: String,
    pub tables: Vec<Table>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Table {
    pub name: String,
    pub input: f64,
    pub cached: f64,
    pub write: f64,
    pub output: f64,
    pub lifetime_s: i64,
    /// Shorter prefixes are not cached.
    pub prefix_tokens_min: usize,
    /// Calls whose raw history would not fit are left out, where given.
    #[serde(default)]
    pub window_tokens: Option<usize>,
}

/// The built-in prices.
#[must_use]
pub fn built_in() -> Prices {
    serde_json::from_str(include_str!("prices.json")).expect("the file is part of the program and tested")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_built_in_prices_are_readable() {
        let prices = super::built_in();
        assert!(!prices.tables.is_empty() && prices.tables.iter().all(|t| t.cached < 1.0 && t.write >= 1.0));
    }
}
