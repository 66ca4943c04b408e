//! The recipes: longer trainings that aim at the figures of papers, one file in `recipes/` each. The
//! files are part of the program, so that `pixtape train NAME` needs no copy of them.

use super::Config;
use std::path::Path;

/// A training by name.
pub(crate) struct Recipe {
    /// The name that `pixtape train` takes.
    pub(crate) name: &'static str,
    /// The text of its file.
    text: &'static str,
}

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        /// The recipes in the order in which they are listed.
        pub(crate) const RECIPES: &[Recipe] =
            &[$(Recipe { name: $name, text: include_str!(concat!("../../recipes/", $name, ".toml")) }),*];
    };
}

recipes!["pixelcnn-mnist-paper", "row-lstm-mnist-paper", "diagonal-bilstm-mnist-paper", "vae-mnist-paper"];

/// The recipe of this name.
pub(crate) fn recipe(name: &str) -> Option<Config> {
    let recipe = RECIPES.iter().find(|recipe| recipe.name == name)?;
    Some(Config::from_toml(recipe.text, Path::new(name)).expect("the tests read every recipe"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PRESETS, named};
    use std::collections::BTreeSet;

    #[test]
    fn every_file_is_a_recipe() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let files = folder.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let named_after: BTreeSet<_> = RECIPES.iter().map(|recipe| format!("{}.toml", recipe.name)).collect();
        assert_eq!(files.collect::<BTreeSet<_>>(), named_after);
        for Recipe { name, .. } in RECIPES {
            let config = named(name).unwrap();
            assert!(
                config.validate_every.is_some_and(|every| every > 0),
                "{name} chooses its checkpoint by validation"
            );
            assert!(PRESETS.iter().all(|preset| preset.name != *name), "{name} is a preset too");
        }
    }
}
