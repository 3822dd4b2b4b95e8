"""LeRobot data sets: `export` writes them, `importing` reads them; `layout` says what lies where."""
