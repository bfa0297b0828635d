"""Object storage: what the program reads from an address such as s3://bucket/run, and writes there.

    client         the requests that are made of a service, and what its answers mean
    credentials    where keys and endpoints are from: the environment and the usual files
    mirror         the folder of this machine that stands for an address, and what is known of both
    reading        fetch what is to be read
    look           whether something is there, for a shell
    fetching       files of an address, written into the folder
    writing        a folder that is uploaded while a run writes into it
    units          files that are of use only together: checkpoints, pipelines
    upload         one pass: what is new goes up, in an order in which no reader sees half of anything

Imports system/ only.
"""
