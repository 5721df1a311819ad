//! Floor 2: the desired rules: the templates of `rules/` rendered from typed values, and what differs from them in what is installed.
