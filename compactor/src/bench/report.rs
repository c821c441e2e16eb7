//! How a report looks: a table for people, one line for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::measure::{LONG_TOKENS, Ratio, Report};
use super::probes::Class;

/// The last line of `bench`.
#[must_use]
pub fn json_line(report: &Report) -> Value {
    let long = long(&report.ratios);
    let retained = |class| {
        report.probes.get(&class).map_or(1.0, |t| share(t.retained, t.retained + t.recoverable + t.lost))
    };
    let (ccs, window) = (future(report, "ccs"), future(report, "window"));
    let money = report.money.first();
    json!({"ccs": {
        "preset": report.settings.describe(),
        "aggregate_ratio_16k": round(aggregate(&long)),
        "p10_ratio_16k": round(percentile(&long, 10)),
        "lost": report.probes.values().map(|t| t.lost).sum::<usize>(),
        "stale": report.stale,
        "retained_instructions": round(retained(Class::Instructions)),
        "retained_files_modified": round(retained(Class::FilesModified)),
        "retained_test_status": round(retained(Class::TestStatus)),
        "retained_errors": round(retained(Class::Errors)),
        "retained_todos": round(retained(Class::Todos)),
        "net_saving_50_calls": round(money.map_or(0.0, |m| m.1.net_saving())),
        "net_saving_all": round(money.map_or(0.0, |m| m.2.net_saving())),
        "future_use_40": round(ccs.all_40.share()),
        "window_future_use_40": round(window.all_40.share()),
        "future_use_far_40": round(ccs.far_40.share()),
        "window_future_use_far_40": round(window.far_40.share()),
        "prefix_stability": round(money.map_or(1.0, |m| share(m.2.stable, m.2.unsealed))),
        "randomised_names_ratio_16k": round(aggregate(&self::long(&report.randomised))),
    }})
}

fn future(report: &Report, name: &str) -> super::measure::FutureUse {
    report.future.get(name).copied().unwrap_or_default()
}

fn long(ratios: &[Ratio]) -> Vec<&Ratio> {
    ratios.iter().filter(|r| r.raw >= LONG_TOKENS).collect()
}

fn aggregate(ratios: &[&Ratio]) -> f64 {
    let (raw, sent) = ratios.iter().fold((0, 0), |(a, b), r| (a + r.raw, b + r.sent));
    if sent == 0 { 0.0 } else { raw as f64 / sent as f64 }
}

fn percentile(ratios: &[&Ratio], p: usize) -> f64 {
    let mut all: Vec<f64> = ratios.iter().map(|r| r.raw as f64 / r.sent.max(1) as f64).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len().saturating_sub(1) * p / 100).copied().unwrap_or(0.0)
}

fn share(part: usize, all: usize) -> f64 {
    if all == 0 { 1.0 } else { part as f64 / all as f64 }
}

/// Three decimals, cut and not rounded up: a figure never looks better than it is.
fn round(value: f64) -> f64 {
    (value * 1000.0).floor() / 1000.0
}

/// The table for people.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "preset {}", report.settings.describe());
    ratios(report, &mut out);
    removed(report, &mut out);
    probes(report, &mut out);
    uses(report, &mut out);
    money(report, &mut out);
    let _ = writeln!(out, "\nchains of compactions (retained · recoverable · lost)");
    for (n, t) in &report.chains {
        let _ = writeln!(out, "  {n:>2}  {:>6} {:>6} {:>6}", t.retained, t.recoverable, t.lost);
    }
    let _ = writeln!(
        out,
        "\nhostile input: {}",
        if report.hostile.is_empty() { "withstood".into() } else { report.hostile.join("; ") }
    );
    out
}

fn ratios(report: &Report, out: &mut String) {
    let _ = writeln!(out, "\nratio after a seal, at 1/2, 3/4 and the end ({} sessions)", report.sessions);
    let _ = writeln!(
        out,
        "  {:<14}{:<12}{:>6}{:>10}{:>8}{:>8}{:>8}",
        "source", "tokens", "cuts", "aggregate", "median", "p10", "sent"
    );
    let buckets = [
        (0, 4_000),
        (4_000, LONG_TOKENS),
        (LONG_TOKENS, 48_000),
        (48_000, usize::MAX),
        (LONG_TOKENS, usize::MAX),
    ];
    let mut sources: Vec<&str> = report.ratios.iter().map(|r| r.format).collect();
    sources.sort_unstable();
    sources.dedup();
    sources.push("all");
    for source in sources {
        for (low, high) in buckets {
            let fits = |r: &&Ratio| (source == "all" || r.format == source) && (low..high).contains(&r.raw);
            let some: Vec<&Ratio> = report.ratios.iter().filter(fits).collect();
            if some.is_empty() {
                continue;
            }
            let range = if high == usize::MAX {
                format!("{}k+", low / 1000)
            } else {
                format!("{}-{}k", low / 1000, high / 1000)
            };
            let sent = some.iter().map(|r| r.sent).sum::<usize>() / some.len();
            let _ = writeln!(
                out,
                "  {source:<14}{range:<12}{:>6}{:>10.2}{:>8.2}{:>8.2}{sent:>8}",
                some.len(),
                aggregate(&some),
                percentile(&some, 50),
                percentile(&some, 10)
            );
        }
    }
}

fn removed(report: &Report, out: &mut String) {
    let total: usize = report.removed.values().sum();
    let parts: Vec<String> =
        report.removed.iter().map(|(pass, n)| format!("{pass} {:.0} %", share(*n, total) * 100.0)).collect();
    let _ = writeln!(out, "\ntaken out of histories of 16k and more, by pass: {}", parts.join(", "));
}

fn probes(report: &Report, out: &mut String) {
    let _ = writeln!(out, "\nprobes{:>21}{:>13}{:>6}", "retained", "recoverable", "lost");
    for class in Class::ALL {
        let t = report.probes.get(&class).copied().unwrap_or_default();
        let _ = writeln!(out, "  {:<16}{:>9}{:>13}{:>6}", class.name(), t.retained, t.recoverable, t.lost);
    }
    let _ = writeln!(out, "  stale: {}", report.stale);
}

fn uses(report: &Report, out: &mut String) {
    let _ = writeln!(out, "\nfuture use   next 10  next 40   far 10   far 40    tokens");
    for (name, f) in &report.future {
        let _ = writeln!(
            out,
            "  {name:<10}{:>8.3} {:>8.3} {:>8.3} {:>8.3} {:>9}",
            f.all_10.share(),
            f.all_40.share(),
            f.far_10.share(),
            f.far_40.share(),
            f.tokens
        );
    }
}

fn money(report: &Report, out: &mut String) {
    let _ = writeln!(
        out,
        "\nmoney: share saved (prices of {}; the base prompt is part of every cost,",
        report.prices_date
    );
    let _ = writeln!(out, "`base` its share of the cached cost, `at most` that of history sent again)");
    let _ = writeln!(
        out,
        "  {:<26}{:<11}{:>8}{:>8}{:>10}{:>7}{:>9}{:>9}{:>8}{:>7}{:>7}",
        "",
        "sessions",
        "tokens",
        "cached",
        "uncached",
        "base",
        "at most",
        "cost $",
        "faults",
        "seals",
        "calls"
    );
    for (table, long, all) in &report.money {
        for (which, c) in [("≥ 50 calls", long), ("all", all)] {
            let tokens = 1.0 - share(c.tokens_compacted, c.tokens_raw);
            let of_cached = |part: f64| if c.cached > 0.0 { part / c.cached } else { 0.0 };
            let (base, most) = (of_cached(c.base), of_cached(c.resent));
            let dollars = c.cached * table.input / 1e6;
            let (cached, uncached) = (c.net_saving(), c.uncached_saving());
            let _ = writeln!(
                out,
                "  {:<26}{which:<11}{tokens:>8.3}{cached:>8.3}{uncached:>10.3}{base:>7.3}{most:>9.3}{dollars:>9.2}{:>8}{:>7}{:>7}",
                table.name, c.faults, c.seals, c.calls
            );
        }
    }
}
