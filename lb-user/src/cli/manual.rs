//! What is made from the command line's own description: completions for shells, man pages, and what exit statuses mean.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::output;

/// What the process's end means, as `--help` and the man pages tell it.
pub(super) const EXIT_STATUS: &[(u8, &str)] = &[
    (0, "Done."),
    (
        1,
        "Failed, not done by every node that was asked, or the doctor found a problem; what is printed says why and what to do.",
    ),
    (2, "The command line or the configuration is wrong; nothing was changed."),
];

/// The end of `rollcall --help`.
pub(super) fn exit_status() -> String {
    let lines: Vec<String> =
        EXIT_STATUS.iter().map(|(status, means)| format!("  {status}  {means}")).collect();
    format!(
        "Exit status:\n{}\n\nWith --json errors are JSON too, an object a line of `error` and `hint` on standard error.",
        lines.join("\n")
    )
}

/// Prints the completions of `shell`.
pub(super) fn completions(shell: Shell, mut command: Command) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "rollcall", &mut script);
    output::verbatim(&script);
}

/// Prints the page of the program, or writes a page for each of its commands to `folder`.
pub(super) fn pages(command: Command, folder: Option<&Path>) -> anyhow::Result<()> {
    let command = built(command);
    let Some(folder) = folder else {
        output::verbatim(&page(&command).context("the page cannot be made")?);
        return Ok(());
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let count = write(&command, folder)?;
    output::line(&format!("{count} pages in {}", folder.display()));
    Ok(())
}

/// Below each command its full name is known then. The `help` commands have no pages.
fn built(command: Command) -> Command {
    let mut command = without_help(command);
    command.build();
    command
}

fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// Writes the pages of `command` and of all below it, and says how many.
fn write(command: &Command, folder: &Path) -> anyhow::Result<usize> {
    let path = folder.join(format!("{}.1", name(command)));
    let text = page(command).context("the page cannot be made")?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.map(|below| write(below, folder)).sum::<anyhow::Result<usize>>().map(|count| count + 1)
}

/// `rollcall-farm-set`, once the command is built.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend_from_slice(b".SH \"EXIT STATUS\"\n");
    EXIT_STATUS.iter().for_each(|(status, means)| page.extend(format!(".TP\n{status}\n{means}\n").bytes()));
    Ok(page)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_a_page_with_its_options_and_the_exit_statuses() {
        let folder = std::env::temp_dir().join(format!("rollcall-man-{}", std::process::id()));
        pages(Cli::command(), Some(&folder)).unwrap();
        let command = built(Cli::command());
        let mut commands: Vec<&Command> = vec![&command];
        let mut count = 0;
        while let Some(command) = commands.pop() {
            let text = fs::read_to_string(folder.join(format!("{}.1", name(command)))).unwrap();
            for (status, means) in EXIT_STATUS {
                assert!(text.contains(&format!(".TP\n{status}\n{means}\n")), "{text}");
            }
            for long in command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set())
                .filter_map(clap::Arg::get_long)
            {
                assert!(text.contains(&long.replace('-', "\\-")), "{long}: {text}");
            }
            commands.extend(command.get_subcommands().filter(|below| !below.is_hide_set()));
            count += 1;
        }
        let written = fs::read_dir(&folder).unwrap().count();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(written, count);
        assert!(count > 25, "{count}");
    }

    #[test]
    fn the_help_ends_with_the_exit_statuses() {
        let help = Cli::command().render_help().to_string();
        for (status, means) in EXIT_STATUS {
            let first = means.split([' ', ',']).next().unwrap();
            assert!(help.contains(&format!("  {status}  {first}")), "{help}");
        }
    }
}
