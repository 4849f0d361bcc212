"""Data sets as their authors distribute them, as TFDS data sets without TensorFlow.

A module has one data set. Each takes the unpacked folder, checks it in one report, and
writes ``array_record`` files, which Grain reads. The licence of each is its authors'.

    builder = sintel.Sintel.prepare("MPI-Sintel-complete", "tensorflow_datasets")
    pairs = builder.as_data_source("train")
"""
