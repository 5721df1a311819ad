//! Every input in the corpora of the fuzz targets, replayed: what fuzzing has found stays found.

use std::fs;
use std::path::Path;

#[path = "fuzz/targets.rs"]
mod targets;

#[test]
fn every_input_of_every_corpus() {
    for (name, target) in targets::ALL {
        let folder = Path::new("tests/fuzz/corpus").join(name);
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            // A failure is told from the last name printed.
            println!("{}", path.display());
            target(&fs::read(&path).expect("a readable file"));
            count += 1;
        }
        assert!(count > 0, "{} holds no input", folder.display());
    }
}

/// No target may be left without a corpus, or a corpus without a target.
#[test]
fn corpora_and_targets_are_the_same() {
    let mut targets: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    for folder in ["corpus", "fuzz_targets"] {
        let folder = Path::new("tests/fuzz").join(folder);
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("a readable folder")
            .map(|entry| {
                let path = entry.expect("a readable folder").path();
                let name = path.file_stem().expect("a name");
                name.to_string_lossy().into_owned()
            })
            .collect();
        names.sort_unstable();
        assert_eq!(names, targets);
    }
}
