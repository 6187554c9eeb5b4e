//! `cargo xtask demo`: a shop's service with and without cachalot in front of its database.

use std::process::ExitCode;

use storefront::args::{self, Command};
use storefront::demo::{self, Ending};
use storefront::nodes;
use tokio::runtime::Runtime;

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> ExitCode {
    match run() {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("storefront: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "a program for people")]
fn run() -> anyhow::Result<Ending> {
    let command = args::parse(std::env::args_os().skip(1))?;
    let runtime = Runtime::new()?;
    let ending = match &command {
        Command::Demo(args) => runtime.block_on(demo::run(args)),
        Command::ServeNode(args) => runtime.block_on(nodes::serve(args)).map(|()| Ending::Complete),
        Command::Help => {
            print!("{}", args::HELP);
            Ok(Ending::Complete)
        }
    };
    // Not waiting for a database that is still being made when Ctrl-C comes.
    runtime.shutdown_background();
    ending
}
