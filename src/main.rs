//! Hands over to the command line.

fn main() -> std::process::ExitCode {
    pixtape::cli::main()
}
