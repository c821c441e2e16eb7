//! One flag per key of the configuration, made from its table, so that none can be forgotten.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::keys::{self, Kind, Mode};
use crate::config::{Sources, limits::LIMITS};

/// The flags of `dev` or `serve`, unread.
#[derive(Debug)]
pub(super) struct SettingFlags<const DEV: bool> {
    config: Option<PathBuf>,
    values: Vec<(&'static str, String)>,
}

/// Flag names by key; the argument parser wants them for as long as the process lives.
static FLAGS: LazyLock<Vec<(keys::Key, String)>> =
    LazyLock::new(|| keys::all().map(|key| (key, key.name.replace('_', "-"))).collect());

fn flags<const DEV: bool>() -> impl Iterator<Item = &'static (keys::Key, String)> {
    let mode = if DEV { Mode::Dev } else { Mode::Serve };
    // Tokens are only hashes, but a list of tables is no flag: they come from the file or the environment.
    FLAGS.iter().filter(move |(key, _)| key.only.is_none_or(|only| only == mode) && key.kind != Kind::Tokens)
}

impl<const DEV: bool> SettingFlags<DEV> {
    /// Returns everything settings are read from: these flags, the environment, and the file they name.
    pub(super) fn sources(&self) -> Sources {
        let Self { config, values } = self;
        Sources { file: config.clone(), flags: values.clone(), ..Sources::default() }.with_process_env()
    }
}

fn argument(key: &keys::Key, flag: &'static str) -> Arg {
    let argument =
        Arg::new(key.name).long(flag).help(key.help).action(ArgAction::Append).allow_hyphen_values(true);
    let argument = match key.kind {
        Kind::Number(limit) => argument.value_name("N").help(help_with_default(key.name, limit.default)),
        Kind::Address | Kind::AddressOrOff => argument.value_name("HOST:PORT"),
        Kind::Path => argument.value_name("PATH"),
        Kind::Flag => argument.value_name("true|false").num_args(0..=1).default_missing_value("true"),
        Kind::Text | Kind::Choice(_) | Kind::List | Kind::Tokens => argument.value_name("TEXT"),
    };
    let is_limit = LIMITS.iter().any(|limit| limit.key == key.name);
    let argument = if is_limit { argument.help_heading("Limits") } else { argument.help_heading("Settings") };
    if key.name == "data_dir" { argument.visible_alias("data") } else { argument }
}

fn help_with_default(name: &str, default: u64) -> String {
    let help = keys::find(name).map_or("", |key| key.help);
    format!("{help} [default: {default}]")
}

impl<const DEV: bool> clap::Args for SettingFlags<DEV> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with settings [env: CELLAFLOW_ENGINE_CONFIG]");
        flags::<DEV>().fold(command.arg(config), |command, (key, flag)| command.arg(argument(key, flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const DEV: bool> clap::FromArgMatches for SettingFlags<DEV> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut values = Vec::new();
        for (key, _) in flags::<DEV>() {
            for text in matches.get_many::<String>(key.name).into_iter().flatten() {
                values.push((key.name, text.clone()));
            }
        }
        Ok(Self { config: matches.get_one::<PathBuf>("config").cloned(), values })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
