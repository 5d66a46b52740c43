"""The hypervisor's side of the processes in which OpenCL runs."""
