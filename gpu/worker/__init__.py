"""The process in which OpenCL runs for one guest context. Nothing here is imported by the
hypervisor's process, and nothing of the hypervisor's is imported here."""
