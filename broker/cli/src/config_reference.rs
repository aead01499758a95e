//! `strandline config`: the reference of all configurations, from the same tables that parse them.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::Args;
use strandline_log::config_def::{ConfigDef, ConfigScope};
use strandline_server::config::ConfigTable;

/// Print every configuration: name, type, default, whether it can change while running, and what it does
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// Only names that contain this text
    #[arg(value_name = "TEXT")]
    pattern: Option<String>,
    /// As a Markdown page
    #[arg(long)]
    markdown: bool,
}

pub fn run(arguments: &ConfigArguments) -> anyhow::Result<()> {
    let table = ConfigTable::joined();
    let wanted = |def: &&ConfigDef| {
        arguments
            .pattern
            .as_ref()
            .is_none_or(|pattern| def.name.contains(pattern.as_str()))
    };
    let mut page = String::new();
    for (title, defs) in [
        (
            "Broker",
            table.broker_defs().filter(wanted).collect::<Vec<_>>(),
        ),
        ("Topic", table.topic_defs().filter(wanted).collect()),
    ] {
        if defs.is_empty() {
            continue;
        }
        match arguments.markdown {
            true => markdown(&mut page, title, &defs)?,
            false => text(&mut page, title, &defs)?,
        }
    }
    anyhow::ensure!(!page.is_empty(), "no configuration has that in its name");
    // A pager that was closed early is no error.
    match std::io::stdout().write_all(page.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn scope(def: &ConfigDef) -> &'static str {
    match def.scope {
        ConfigScope::Topic { .. } => "per topic",
        ConfigScope::Broker => "read at the start",
        ConfigScope::BrokerDynamic => "default of topics",
        ConfigScope::Ignored => "no effect here",
    }
}

fn text(page: &mut String, title: &str, defs: &[&ConfigDef]) -> std::fmt::Result {
    writeln!(page, "{title} configurations\n")?;
    for def in defs {
        let default = def.default.unwrap_or("(unset)");
        writeln!(page, "{} = {default}", def.name)?;
        writeln!(page, "    {}; {}", def.kind, scope(def))?;
        writeln!(page, "    {}\n", def.doc)?;
    }
    Ok(())
}

fn markdown(page: &mut String, title: &str, defs: &[&ConfigDef]) -> std::fmt::Result {
    writeln!(page, "## {title} configurations\n")?;
    writeln!(
        page,
        "| name | default | values | when | what |\n|---|---|---|---|---|"
    )?;
    for def in defs {
        let default = def.default.unwrap_or("");
        writeln!(
            page,
            "| `{}` | `{default}` | {} | {} | {} |",
            def.name,
            def.kind,
            scope(def),
            def.doc.replace('|', "\\|"),
        )?;
    }
    writeln!(page)
}
