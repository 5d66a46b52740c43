/* Calls the kernel's shortest system call many times, between markers. */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("<begin getppid>\n");
    for (int i = 0; i < 100000; i++)
        syscall(SYS_getppid);
    printf("<end getppid>\n");
    return 0;
}
