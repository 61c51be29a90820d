"""Remembers a finished run in MLflow: numbers, tables, plots, and the checkpoint as a model.

Everything lies under `PIVOTRL_HOME`: the SQLite store `mlflow.db` and the files in `artifacts/`;
with `MLFLOW_TRACKING_URI`, MLflow's own variable, the files alone.
A run is logged once: its content key finds it again, and a half-logged one is replaced. A
checkpoint is a `LoggedModel` without a flavour, so that it is read with transformers and never
unpickled. This module must never know how the numbers were made, nor a config, nor Prefect.
"""
