//! The command line: parses the arguments, builds a validated configuration from them, and runs a
//! subcommand. Each subcommand has its own file.
//!
//! A subcommand returns [`Result`]. Errors are printed only here, as one sentence on stderr.

mod accuracy;
mod args;
mod bench;
mod causality;
mod check;
mod colorize;
mod compare;
mod complete;
mod control;
mod data;
mod demo;
mod devices;
mod encode;
mod eval;
mod export;
mod held_out;
mod interpolate;
mod judge;
mod measured;
mod out_file;
mod output;
mod plan;
mod progress;
mod reconstruct;
mod restore;
mod sample;
mod signals;
mod simulate;
mod superres;
mod tensors;
mod trace;
mod train;
mod trained;
mod traverse;

use crate::backend;
use crate::error::Result;
use crate::panics;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Train and sample generative image models with hand-written compute kernels.
#[derive(Debug, Parser)]
#[command(name = "pixtape", version, about, propagate_version = true)]
#[command(after_help = "Example: pixtape train vae-mnist --data glyphs --steps 500\n\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage; 129, 130 or 143 if SIGHUP, SIGINT (Ctrl-C) or SIGTERM ended the command.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Train(train::Args),
    Sample(sample::Args),
    Eval(eval::Args),
    Judge(judge::Args),
    Complete(complete::Args),
    Colorize(colorize::Args),
    Superres(superres::Args),
    Simulate(simulate::Args),
    Control(control::Args),
    Reconstruct(reconstruct::Args),
    Interpolate(interpolate::Args),
    Traverse(traverse::Args),
    Encode(encode::Args),
    Compare(compare::Args),
    Causality(causality::Args),
    Export(export::Args),
    Bench(bench::Args),
    Check(check::Args),
    Plan(plan::Args),
    Devices(devices::Args),
    Data(data::Args),
}

/// Runs the command line of this process and returns its exit code: 0 for success, 2 if the arguments
/// themselves are wrong, 128 plus its number if a signal stopped a training, 1 for any other failure.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        if !panics::is_caught() {
            report_bug(&panic.to_string());
            std::process::exit(1);
        }
    }));
    backend::listen(output::note);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => {
            let is_error =
                refused.use_stderr() && refused.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            // If this cannot be printed either, there is no way left to report it.
            let _ = match is_error {
                true => writeln!(std::io::stderr(), "{}", usage_message(&refused.render().to_string())),
                false => refused.print(),
            };
            return exit_code(refused.exit_code());
        }
    };
    match run(cli.command) {
        Ok(()) => signals::exit_code().map_or(ExitCode::SUCCESS, exit_code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", one_line(&error.to_string()));
            exit_code(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Train(args) => train::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Judge(args) => judge::run(args),
        Command::Complete(args) => complete::run(args),
        Command::Colorize(args) => colorize::run(args),
        Command::Superres(args) => superres::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Control(args) => control::run(args),
        Command::Reconstruct(args) => reconstruct::run(args),
        Command::Interpolate(args) => interpolate::run(args),
        Command::Traverse(args) => traverse::run(args),
        Command::Encode(args) => encode::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Causality(args) => causality::run(args),
        Command::Export(args) => export::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => check::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Data(args) => data::run(args),
    }
}

fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A panic is always a bug in this program: reports it in one sentence, without a backtrace.
fn report_bug(panic: &str) {
    let what = one_line(panic);
    let what = what.strip_prefix("panicked at ").unwrap_or(&what);
    let _ = writeln!(std::io::stderr(), "error: this is a bug in pixtape ({what}); please report it with the command");
}

/// What clap says about wrong arguments in at most three lines: what is wrong, a tip if there is one, and
/// where to read more. The long lists of its usage are left to `--help`.
fn usage_message(text: &str) -> String {
    let parts = text.split("\n\n").filter(|part| !part.trim_start().starts_with("Usage:"));
    parts.map(one_line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The text in one line that a terminal of 110 columns shows in three. A longer one loses its middle,
/// because the remedy is at its end.
fn one_line(text: &str) -> String {
    const MOST: usize = 320;
    const START: usize = 160;
    const GAP: &str = " ... ";
    let line: Vec<char> = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
    if line.len() <= MOST {
        return line.into_iter().collect();
    }
    let end = line.len() - (MOST - START - GAP.len());
    line[..START].iter().copied().chain(GAP.chars()).chain(line[end..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_subcommand_is_well_formed_and_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut open: Vec<clap::Command> = vec![command];
        while let Some(command) = open.pop() {
            if command.get_name() != "help" {
                let help = command.clone().render_long_help().to_string();
                assert!(help.contains("Example"), "{} has no example", command.get_name());
                assert!(command.get_about().is_some(), "{} does not say what it does", command.get_name());
                for argument in command.get_arguments() {
                    assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
                }
                open.extend(command.get_subcommands().cloned());
            }
        }
    }

    #[test]
    fn a_message_is_one_line_whatever_it_holds() {
        assert_eq!(one_line("a\n  b\tc"), "a b c");
        let long = one_line(&format!("{}end", "x".repeat(5000)));
        assert!(long.len() == 320 && long.starts_with("xxx") && long.ends_with("xend"), "{long}");
    }

    #[test]
    fn wrong_arguments_are_told_in_three_lines() {
        for words in [&["pixtape", "sample"][..], &["pixtape", "export"], &["pixtape", "train", "a", "--sed", "1"]] {
            let refused = Cli::try_parse_from(words).unwrap_err();
            let text = usage_message(&refused.render().to_string());
            assert!(text.starts_with("error: ") && text.ends_with("try '--help'."), "{text}");
            assert!(text.lines().count() <= 3 && !text.contains("Usage:"), "{text}");
        }
    }
}
