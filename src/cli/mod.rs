//! The command line: parses the arguments, builds a validated configuration from them, and runs a
//! subcommand. Each subcommand has its own file.
//!
//! A subcommand returns [`Result`]. Errors are printed only here, as one sentence on stderr.

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
mod measured;
mod output;
mod plan;
mod progress;
mod reconstruct;
mod restore;
mod sample;
mod simulate;
mod superres;
mod tensors;
mod trace;
mod train;
mod trained;

use crate::backend;
use crate::error::Result;
use crate::panics;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Train and sample generative image models with hand-written compute kernels.
#[derive(Debug, Parser)]
#[command(name = "pixtape", version, about, propagate_version = true)]
#[command(after_help = "Example: pixtape train vae-mnist --data glyphs --steps 500")]
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
    Complete(complete::Args),
    Colorize(colorize::Args),
    Superres(superres::Args),
    Simulate(simulate::Args),
    Control(control::Args),
    Reconstruct(reconstruct::Args),
    Interpolate(interpolate::Args),
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
/// themselves are wrong, 1 for any other failure.
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
            // If this cannot be printed either, there is no way left to report it.
            let _ = refused.print();
            return exit_code(refused.exit_code());
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
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
        Command::Complete(args) => complete::run(args),
        Command::Colorize(args) => colorize::run(args),
        Command::Superres(args) => superres::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Control(args) => control::run(args),
        Command::Reconstruct(args) => reconstruct::run(args),
        Command::Interpolate(args) => interpolate::run(args),
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

/// The text in one line of limited length.
fn one_line(text: &str) -> String {
    const MOST: usize = 1000;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MOST { line } else { line.chars().take(MOST).chain("...".chars()).collect() }
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
        assert_eq!(one_line(&"x".repeat(5000)).len(), 1003);
    }
}
