"""The demo: trains, restores, measures and shows, in minutes, offline."""

from jaxflow.demo.flow import run as run
