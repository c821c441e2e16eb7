//! Prices of model calls, in the file format of the SDK (`CELLAFLOW_PRICES`), whose list is the default.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::transcripts::Usage;

/// A price list.
#[derive(Debug, Clone, Deserialize)]
pub struct Prices {
    /// When the prices were looked up, "2026-11-05".
    pub date: String,
    models: BTreeMap<String, Model>,
}

#[derive(Debug, Clone, Deserialize)]
struct Model {
    #[serde(flatten)]
    tokens: Tokens,
    long: Option<Long>,
}

/// Nano-dollars per token.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    input: i64,
    cached_read: i64,
    cache_write: i64,
    output: i64,
}

/// Other prices for requests with more input tokens (cached ones included) than this.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Long {
    over_tokens: u64,
    #[serde(flatten)]
    tokens: Tokens,
}

impl Prices {
    /// The list that comes with the SDK.
    #[must_use]
    pub fn shipped() -> Self {
        serde_json::from_str(include_str!("../../../sdk-ts/src/llm/prices.json"))
            .expect("the file is part of the program and tested")
    }

    /// Reads a list.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Cost of a call in nano-dollars; `None`: the model is in no list.
    #[must_use]
    pub fn cost(&self, provider: &str, model: &str, usage: Usage) -> Option<i64> {
        let found = self.find(provider, model)?;
        let long = found.long.as_ref().filter(|long| usage.prompt_tokens() > long.over_tokens);
        let price = long.map_or(found.tokens, |long| long.tokens);
        let times = |tokens: u64, price: i64| i64::try_from(tokens).ok()?.checked_mul(price);
        [
            times(usage.input_tokens, price.input)?,
            times(usage.cached_tokens, price.cached_read)?,
            times(usage.cache_write_tokens, price.cache_write)?,
            times(usage.output_tokens, price.output)?,
        ]
        .into_iter()
        .try_fold(0i64, i64::checked_add)
    }

    /// A snapshot's price is its model's: "gpt-5.5-2026-04-23" is "gpt-5.5".
    fn find(&self, provider: &str, model: &str) -> Option<&Model> {
        let base = undated(model);
        let names = [format!("{provider}/{model}"), model.into(), format!("{provider}/{base}"), base.into()];
        names.iter().find_map(|name| self.models.get(name))
    }
}

/// A model's name without the day of its snapshot, "-2026-04-23" or "-20260423".
fn undated(model: &str) -> &str {
    let digits = |text: &str, lengths: &[usize]| {
        let parts: Vec<_> = text.split('-').collect();
        parts.len() == lengths.len()
            && parts
                .iter()
                .zip(lengths)
                .all(|(part, length)| part.len() == *length && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    for (length, parts) in [(10, &[4, 2, 2][..]), (8, &[8][..])] {
        let Some(at) = model.len().checked_sub(length + 1) else { continue };
        if let Some((base, day)) = model.split_at_checked(at)
            && day.strip_prefix('-').is_some_and(|day| digits(day, parts))
        {
            return base;
        }
    }
    model
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_costs_what_the_list_says() {
        let list = r#"{"date": "2026-11-01", "models": {
            "m": {"input": 10, "cachedRead": 1, "cacheWrite": 12, "output": 50,
                  "long": {"overTokens": 100, "input": 20, "cachedRead": 2, "cacheWrite": 24, "output": 75}},
            "other/m": {"input": 1, "cachedRead": 1, "cacheWrite": 1, "output": 1}}}"#;
        let prices = Prices::read(list).unwrap();
        let usage = Usage { input_tokens: 10, cached_tokens: 20, cache_write_tokens: 5, output_tokens: 2 };
        assert_eq!(prices.cost("p", "m", usage), Some(100 + 20 + 60 + 100));
        assert_eq!(prices.cost("p", "m-2026-04-23", usage), Some(280), "a snapshot");
        assert_eq!(prices.cost("p", "m-20260423", usage), Some(280), "a snapshot");
        assert_eq!(prices.cost("other", "m", usage), Some(37), "the provider's own price");
        assert_eq!(prices.cost("p", "n", usage), None, "no price is no price");
        let long = Usage { input_tokens: 90, ..usage };
        assert_eq!(prices.cost("p", "m", long), Some(1_800 + 40 + 120 + 150));
        assert!(Prices::shipped().cost("", "gpt-5-mini", usage).is_some());
    }
}
