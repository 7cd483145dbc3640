"""`python -m stepzero` is the command line."""

from stepzero.cli import main

raise SystemExit(main())
