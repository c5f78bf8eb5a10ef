//! Completions of shells and manual pages, made from the grammar.

use std::fs;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Arguments;
use crate::failure::Failure;
use crate::output::{Output, print};

pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(shell, &mut command, "guarded-host", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// The page of the program, or with `--out` a folder with the pages of all commands.
pub(crate) fn man(output: &Output) -> Result<(), Failure> {
    let command = Arguments::command();
    if let Some(folder) = output.file() {
        fs::create_dir_all(folder).map_err(Failure::Output)?;
        return clap_mangen::generate_to(command, folder).map_err(Failure::Output);
    }
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(Failure::Output)?;
    print(&String::from_utf8_lossy(&page))
}
